import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** What a file in bench/results says about its table for the README. */
interface Results {
  readonly title: string;
  /** The command that made the file. */
  readonly command: string;
  /** Where it ran: processor, threads, versions. */
  readonly machine?: string;
  readonly table: { readonly columns: readonly string[]; readonly rows: readonly (readonly (string | number)[])[] };
  /** A sentence below the table. */
  readonly note?: string;
}

const isTable = (table: Results["table"] | undefined): boolean =>
  Array.isArray(table?.columns) &&
  Array.isArray(table?.rows) &&
  table.rows.every((row) => row.length === table.columns.length);

/** A Markdown table; the first column is text, the others are aligned to the right. */
export const markdownTable = ({ columns, rows }: Results["table"]): string =>
  [columns, columns.map((_, i) => (i === 0 ? "---" : "--:")), ...rows]
    .map((row) => `| ${row.join(" | ")} |`)
    .join("\n");

/**
 * The section of the README for `bench/results/<name>.json`: title, table, and the command it comes from. Empty when
 * there is no such file.
 * @throws Error when the file does not have the fields of {@link Results}.
 */
export function resultsSection(folder: string, name: string): string {
  const path = join(folder, `${name}.json`);
  if (!existsSync(path)) return "";
  const { title, command, machine, table, note } = JSON.parse(readFileSync(path, "utf8")) as Partial<Results>;
  if (!title || !command || !table || !isTable(table)) {
    throw new Error(`${path} needs "title", "command" and "table": { "columns": [...], "rows": [[...]] }.`);
  }
  const origin = `From \`${command}\`${machine === undefined ? "" : `, ${machine}`}: [${name}.json](bench/results/${name}.json).`;
  return [`### ${title}`, "", markdownTable(table), "", ...(note === undefined ? [] : [note, ""]), origin].join("\n");
}
