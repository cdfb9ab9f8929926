import type { DataLimits } from "./limits.ts";
import type { RawRow } from "./raw-row.ts";
import { type Line, readLines } from "./read-lines.ts";

/** True when brackets outside of strings nest deeper than `maxDepth`; works on malformed JSON too. */
function nestsDeeper(text: string, maxDepth: number): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (inString) {
      if (c === 0x5c)
        i++; // a backslash escapes what follows
      else if (c === 0x22) inString = false;
    } else if (c === 0x22) inString = true;
    else if (c === 0x7b || c === 0x5b) {
      if (++depth > maxDepth) return true;
    } else if (c === 0x7d || c === 0x5d) depth--;
  }
  return false;
}

function parseLine({ number, text }: Line, { maxDepth, maxColumns }: Required<DataLimits>): RawRow[] {
  const where = `line ${number}`;
  if (text === null) return [{ where, problem: "expected UTF-8, received other bytes." }];
  if (text.trim() === "") return [];
  if (nestsDeeper(text, maxDepth)) return [{ where, problem: `expected at most ${maxDepth} levels of nesting.` }];
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return [{ where, problem: `expected JSON: ${error instanceof Error ? error.message : String(error)}.` }];
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return [{ where, problem: `expected an object such as {"text": "..."}, received ${text.trim().slice(0, 40)}.` }];
  }
  if (Object.keys(value).length > maxColumns) return [{ where, problem: `expected at most ${maxColumns} keys.` }];
  return [{ where, values: value as Record<string, unknown> }];
}

/** JSON Lines: one object per line, UTF-8, empty lines skipped. */
export async function* readJsonLines(file: string, limits: Required<DataLimits>): AsyncGenerator<RawRow[]> {
  for await (const lines of readLines(file, limits.maxLineBytes)) {
    yield lines.flatMap((line) => parseLine(line, limits));
  }
}
