import type { PeftError } from "@onnx-peft/core";
import { type CsvError, type Parser, parse } from "csv-parse";
import type { DataLimits } from "./limits.ts";
import { dataInvalid, type RawRow } from "./raw-row.ts";
import { readLines } from "./read-lines.ts";

export interface CsvOptions {
  /** Default "," for the format csv and a tab for tsv. */
  delimiter?: string;
  /** The first record names the columns. Default true; else they are called "0", "1", ... */
  header?: boolean;
  /** Fields may stand in double quotes. Default true; false for files such as GLUE's, where a quote is a character. */
  quote?: boolean;
}

/** The file's lines as text for the parser; checks their length and encoding on the way. */
async function* checkedText(file: string, maxLineBytes: number): AsyncGenerator<string> {
  for await (const lines of readLines(file, maxLineBytes)) {
    const bad = lines.find((line) => line.text === null);
    if (bad)
      throw dataInvalid(file, [{ where: `line ${bad.number}`, problem: "expected UTF-8, received other bytes." }]);
    yield `${lines.map((line) => line.text).join("\n")}\n`;
  }
}

function headerProblem(file: string, names: readonly string[], maxColumns: number): PeftError | null {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  let problem = "";
  if (names.length > maxColumns) problem = `expected at most ${maxColumns} columns, received ${names.length}.`;
  else if (twice !== undefined) problem = `column "${twice}" occurs twice.`;
  return problem === "" ? null : dataInvalid(file, [{ where: "line 1", problem }]);
}

/** Hands one piece of text to the parser and waits until its callbacks were called for all complete records. */
const feed = (parser: Parser, text: string | null): Promise<void> =>
  new Promise((resolve, reject) => {
    const done = (error?: Error | null): void => (error ? reject(error) : resolve());
    if (text === null) parser.end(done);
    else parser.write(text, done);
  });

/** CSV and TSV (RFC 4180, any delimiter), streamed. A record is named by the line on which it ends. */
export async function* readCsv(
  file: string,
  { delimiter = ",", header = true, quote = true }: CsvOptions,
  limits: Required<DataLimits>,
): AsyncGenerator<RawRow[]> {
  let names: readonly string[] | null = null;
  let rows: RawRow[] = [];
  let unreadable: PeftError | null = null;

  const take = (record: readonly string[], line: number): void => {
    if (unreadable) return;
    if (names === null) {
      names = header ? record : record.map((_, i) => String(i));
      unreadable = headerProblem(file, names, limits.maxColumns);
      if (header || unreadable) return;
    }
    const where = `line ${line}`;
    if (record.length !== names.length) {
      rows.push({ where, problem: `expected ${names.length} fields, received ${record.length}.` });
    } else rows.push({ where, values: Object.fromEntries(names.map((name, i) => [name, record[i]])) });
  };
  const skip = (error: CsvError | undefined): undefined => {
    if (unreadable) return;
    const where = `line ${error?.["lines"]}`;
    const problem = `${error?.message}. Use csv.quote: false where quotes are plain characters.`;
    // Past an overlong record or a header that is none, nothing can be made of what follows.
    if (error?.code === "CSV_MAX_RECORD_SIZE" || names === null) unreadable = dataInvalid(file, [{ where, problem }]);
    else rows.push({ where, problem });
  };
  // Callbacks, not the readable side: a stream drops what it has buffered when an error comes.
  const parser = parse({
    delimiter,
    quote: quote ? '"' : null,
    record_delimiter: ["\r\n", "\n"],
    relax_column_count: true, // checked above, to name every bad row and not only the first
    skip_empty_lines: true,
    skip_records_with_error: true,
    max_record_size: limits.maxLineBytes,
    on_skip: skip,
    on_record: (record: readonly string[], { lines }) => {
      take(record, lines);
      return null;
    },
  });
  parser.on("error", () => {}); // `feed` rejects with it
  parser.resume();

  const checked = async function* (text: string | null): AsyncGenerator<RawRow[]> {
    await feed(parser, text);
    if (unreadable) throw unreadable;
    yield rows;
    rows = [];
  };
  for await (const text of checkedText(file, limits.maxLineBytes)) yield* checked(text);
  yield* checked(null);
}
