import { isUtf8 } from "node:buffer";
import { lstat, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { DataLimits } from "./limits.ts";
import type { RawRow } from "./raw-row.ts";

const visible = (names: readonly string[]): string[] => names.filter((name) => !name.startsWith(".")).sort();

async function readText(path: string, where: string, maxBytes: number): Promise<RawRow & { readonly text?: string }> {
  const status = await lstat(path);
  // A link could point anywhere outside of the data.
  if (!status.isFile()) return { where, problem: "expected a plain file, received a folder, a link or a device." };
  if (status.size > maxBytes) return { where, problem: `expected at most ${maxBytes} bytes, received ${status.size}.` };
  const bytes = await readFile(path);
  if (!isUtf8(bytes)) return { where, problem: "expected UTF-8, received other bytes." };
  return { where, values: {}, text: bytes.toString("utf8").replace(/^\ufeff/, "") };
}

/**
 * A folder per label with a text per file: `folder/label/any.txt`, in the order of their names. Hidden files are skipped.
 * Values are `text` and `label`.
 */
export async function* readFolder(folder: string, limits: Required<DataLimits>): AsyncGenerator<RawRow[]> {
  for (const label of visible(await readdir(folder))) {
    const inner = join(folder, label);
    if (!(await lstat(inner)).isDirectory()) {
      yield [{ where: label, problem: "expected a folder named after a label, received something else." }];
      continue;
    }
    for (const name of visible(await readdir(inner))) {
      const row = await readText(join(inner, name), join(label, name), limits.maxLineBytes);
      yield ["problem" in row ? row : { where: row.where, values: { text: row.text, label } }];
    }
  }
}
