import { stat } from "node:fs/promises";
import { extname } from "node:path";
import { PeftError } from "@onnx-peft/core";
import type { DataLimits } from "./limits.ts";
import type { RawRows } from "./raw-row.ts";
import { readConll } from "./read-conll.ts";
import { type CsvOptions, readCsv } from "./read-csv.ts";
import { readFolder } from "./read-folder.ts";
import { readJsonLines } from "./read-json-lines.ts";
import { readParquet } from "./read-parquet.ts";

export type DataFormat = "json-lines" | "csv" | "tsv" | "parquet" | "folder" | "conll";

const formatOfExtension: Readonly<Record<string, DataFormat>> = {
  ".jsonl": "json-lines",
  ".ndjson": "json-lines",
  ".csv": "csv",
  ".tsv": "tsv",
  ".parquet": "parquet",
  ".conll": "conll",
  ".bio": "conll",
};

export interface SourceOptions {
  /** Default: from the extension; a folder is a folder per label. */
  format?: DataFormat;
  csv?: CsvOptions;
  limits?: DataLimits;
}

/**
 * The rows of a file or folder as they stand in it.
 *
 * @param columns the wanted ones; Parquet reads no others.
 * @throws PeftError DATA_NOT_FOUND, DATA_FORMAT_UNKNOWN.
 */
export async function openSource(
  path: string,
  columns: readonly string[],
  options: SourceOptions,
  limits: Required<DataLimits>,
): Promise<RawRows> {
  const status = await stat(path).catch((cause: unknown) => {
    throw new PeftError("DATA_NOT_FOUND", `expected a file or a folder, received "${path}".`, { cause });
  });
  const format = options.format ?? (status.isDirectory() ? "folder" : formatOfExtension[extname(path).toLowerCase()]);
  // Reading a pipe would wait for a writer, and a device may never end.
  if (!status.isDirectory() && !status.isFile()) {
    throw new PeftError("DATA_FORMAT_UNKNOWN", `expected a file or a folder at "${path}", received neither.`);
  }
  if ((format === "folder") !== status.isDirectory()) {
    throw new PeftError(
      "DATA_FORMAT_UNKNOWN",
      `expected ${format === "folder" ? "a folder" : "a file"} at "${path}", received the other.`,
    );
  }
  if (format === undefined) {
    const known = Object.keys(formatOfExtension).join(", ");
    throw new PeftError("DATA_FORMAT_UNKNOWN", `expected one of ${known}, received "${path}".`, {
      hint: "Name the format.",
    });
  }
  const open: Record<DataFormat, () => RawRows> = {
    "json-lines": () => readJsonLines(path, limits),
    csv: () => readCsv(path, { delimiter: ",", ...options.csv }, limits),
    tsv: () => readCsv(path, { delimiter: "\t", ...options.csv }, limits),
    parquet: () => readParquet(path, columns, limits),
    folder: () => readFolder(path, limits),
    conll: () => readConll(path, limits),
  };
  return open[format]();
}
