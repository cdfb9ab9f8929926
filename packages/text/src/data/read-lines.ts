import { isUtf8 } from "node:buffer";
import { createReadStream } from "node:fs";
import { dataInvalid } from "./raw-row.ts";

/** A line without its "\n" (a "\r" stays); text is null when the bytes are not UTF-8. */
export interface Line {
  /** From 1. */
  readonly number: number;
  readonly text: string | null;
}

const NEWLINE = 10;
const BYTE_ORDER_MARK = "\ufeff";

/**
 * Streams the lines of a text file in batches of a read chunk each; memory is one chunk and one line.
 *
 * @param maxLineBytes a longer line ends the reading.
 * @throws PeftError DATA_INVALID for a line that is too long.
 */
export async function* readLines(file: string, maxLineBytes: number): AsyncGenerator<Line[]> {
  let number = 1;
  let open: Buffer[] = []; // pieces of a line that goes on in the next chunk
  let openBytes = 0;

  const finish = (piece: Buffer): Line => {
    const bytes = openBytes === 0 ? piece : Buffer.concat([...open, piece]);
    open = [];
    openBytes = 0;
    let text = isUtf8(bytes) ? bytes.toString("utf8") : null;
    if (number === 1 && text?.startsWith(BYTE_ORDER_MARK)) text = text.slice(1);
    return { number: number++, text };
  };
  const check = (bytes: number): void => {
    if (bytes <= maxLineBytes) return;
    const problem = `line of more than ${maxLineBytes} bytes; raise limits.maxLineBytes if it is meant to be that long.`;
    throw dataInvalid(file, [{ where: `line ${number}`, problem }]);
  };

  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    const lines: Line[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      check(openBytes + end - start);
      lines.push(finish(chunk.subarray(start, end)));
      start = end + 1;
    }
    if (start < chunk.length) {
      open.push(chunk.subarray(start));
      openBytes += chunk.length - start;
      check(openBytes);
    }
    if (lines.length > 0) yield lines;
  }
  if (openBytes > 0) yield [finish(Buffer.alloc(0))];
}
