import { PeftError } from "@onnx-peft/core";
import type { DataLimits } from "./limits.ts";

/** A row as it stands in a file, or why it could not be read; `where` is "line 7", "row 3" or a file name. */
export type RawRow =
  | { readonly where: string; readonly values: Readonly<Record<string, unknown>> }
  | { readonly where: string; readonly problem: string };

/** Rows come in batches: one asynchronous step per row would cost more than the row. */
export type RawRows = AsyncIterable<readonly RawRow[]>;

/** The error of a file with bad rows; `details.problems` lists them as { where, problem }. */
export function dataInvalid(
  file: string,
  problems: readonly { where: string; problem: string }[],
  more = false,
): PeftError {
  const lines = problems.map(({ where, problem }) => `${file}, ${where}: ${problem}`);
  const count = `${problems.length}${more ? " or more" : ""} bad row${problems.length === 1 && !more ? "" : "s"}`;
  return new PeftError("DATA_INVALID", `expected readable rows, received ${count}:\n${lines.join("\n")}`, {
    details: { file, problems: problems.map(({ where, problem }) => ({ where, problem })) },
  });
}

/**
 * Converts raw rows and yields the good ones. At the first bad row it reads on to list the problems of the rows that follow
 * as well, then throws them all together.
 *
 * @param convert calls `report` for every problem of a row; its result is used when there was none.
 * @throws PeftError DATA_INVALID naming file and line (Parquet: row) of every problem.
 */
export async function* convertRows<T>(
  file: string,
  source: RawRows,
  convert: (values: Readonly<Record<string, unknown>>, report: (problem: string) => void) => T,
  limits: Required<DataLimits>,
): AsyncGenerator<T> {
  const problems: { where: string; problem: string }[] = [];
  let rowsLeft = limits.problemWindow;
  for await (const batch of source) {
    for (const row of batch) {
      let converted: T | undefined;
      if ("problem" in row) problems.push(row);
      else {
        converted = convert(row.values, (problem) => {
          problems.push({ where: row.where, problem });
        });
      }
      if (problems.length === 0) yield converted as T;
      else if (problems.length >= limits.maxProblems || rowsLeft-- <= 0) {
        throw dataInvalid(file, problems.slice(0, limits.maxProblems), true);
      }
    }
  }
  if (problems.length > 0) throw dataInvalid(file, problems);
}
