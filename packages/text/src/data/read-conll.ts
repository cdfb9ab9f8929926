import type { DataLimits } from "./limits.ts";
import type { RawRow } from "./raw-row.ts";
import { readLines } from "./read-lines.ts";

/**
 * CoNLL format: one token per line, fields separated by spaces or a tab, sentences by empty lines; `-DOCSTART-` lines and
 * comments ("# ", before the first token of a sentence) are skipped. Values are `tokens` (first field) and `tags` (last
 * field); a sentence is named by its first line.
 */
export async function* readConll(file: string, limits: Required<DataLimits>): AsyncGenerator<RawRow[]> {
  let tokens: string[] = [];
  let tags: string[] = [];
  let problem: string | null = null;
  let start = 1;
  let bytes = 0;
  const take = (): RawRow[] => {
    const where = `line ${start}`;
    const row: RawRow[] =
      problem !== null ? [{ where, problem }] : tokens.length > 0 ? [{ where, values: { tokens, tags } }] : [];
    [tokens, tags, problem, bytes] = [[], [], null, 0];
    return row;
  };
  for await (const lines of readLines(file, limits.maxLineBytes)) {
    const rows: RawRow[] = [];
    for (const { number, text } of lines) {
      const line = text?.trim();
      if (line === "" || line?.startsWith("-DOCSTART-")) {
        rows.push(...take());
        continue;
      }
      if (tokens.length === 0 && problem === null) {
        if (line?.startsWith("# ")) continue;
        start = number;
      }
      bytes += line?.length ?? 0;
      const fields = line?.split(/\t|\s+/) ?? [];
      if (text === null) problem ??= `expected UTF-8 in line ${number}, received other bytes.`;
      else if (fields.length < 2)
        problem ??= `expected a token and a tag in line ${number}, received ${JSON.stringify(line)}.`;
      else if (bytes > limits.maxLineBytes) problem ??= `expected sentences of at most ${limits.maxLineBytes} bytes.`;
      if (problem !== null) continue; // keep no more of a bad sentence
      tokens.push(fields[0] ?? "");
      tags.push(fields.at(-1) ?? "");
    }
    yield rows;
  }
  yield take();
}
