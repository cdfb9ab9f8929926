import { type FileHandle, open, readFile } from "node:fs/promises";
import { PeftError } from "../errors.ts";

/** One line of the log; `step` is the number of optimiser steps done and never falls from line to line. */
export interface MetricsRecord {
  step: number;
  [name: string]: unknown;
}

/** Appends records to a JSON Lines file. */
export interface MetricsLog {
  /** Queues a record; it is on disk after the next `flush`. */
  append(record: MetricsRecord): void;
  /** Writes what is queued. Survives the end of the process and of the machine from then on. */
  flush(): Promise<void>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const SPECIAL: Record<string, number> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  "-Infinity": Number.NEGATIVE_INFINITY,
};

/** JSON in which NaN and infinities are texts: JSON has no such numbers and would write null; they must stay visible. */
export const stringifyNumbers = (value: unknown): string =>
  JSON.stringify(value, (_, item: unknown) =>
    typeof item === "number" && !Number.isFinite(item) ? String(item) : item,
  );

/** Reads what `stringifyNumbers` wrote. */
export const parseNumbers = (text: string): unknown =>
  JSON.parse(text, (_, item: unknown) =>
    typeof item === "string" && Object.hasOwn(SPECIAL, item) ? SPECIAL[item] : item,
  );

interface Line {
  record: MetricsRecord;
  /** Bytes of the file up to its end, newline included. */
  end: number;
}

/** Parses a log; a last line without its newline was cut off by a crash and is left out. */
function linesOf(bytes: Buffer, path: string): Line[] {
  const lines: Line[] = [];
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(10, start);
    if (newline < 0) break;
    const text = bytes.toString("utf8", start, newline);
    lines.push({ record: parseLine(text, lines.length + 1, path), end: newline + 1 });
    start = newline + 1;
  }
  return lines;
}

function parseLine(text: string, line: number, path: string): MetricsRecord {
  const where = `line ${line} of ${path}`;
  let value: unknown;
  try {
    value = parseNumbers(text);
  } catch (cause) {
    throw new PeftError(
      "METRICS_LOG_INVALID",
      `expected one JSON object a line, received ${text.slice(0, 60)} at ${where}.`,
      { cause },
    );
  }
  const step = typeof value === "object" && value !== null ? (value as { step?: unknown }).step : undefined;
  if (typeof step !== "number" || !Number.isFinite(step)) {
    throw new PeftError(
      "METRICS_LOG_INVALID",
      `expected an object with a numeric "step", received ${text.slice(0, 60)} at ${where}.`,
    );
  }
  return value as MetricsRecord;
}

/**
 * Reads a metrics log, also one that is being written.
 * @throws PeftError METRICS_LOG_INVALID naming the line. The file system's own errors pass through.
 */
export async function readMetrics(path: string): Promise<MetricsRecord[]> {
  return linesOf(await readFile(path), path).map((line) => line.record);
}

/** Keeps the lines up to a step, in place, so that a resumed run never shows the same step twice. Returns the last step kept. */
async function cutAfter(file: FileHandle, path: string, step: number): Promise<number> {
  let end = 0;
  let lastStep = Number.NEGATIVE_INFINITY;
  for (const line of linesOf(await file.readFile(), path)) {
    if (line.record.step > step) break;
    end = line.end;
    lastStep = line.record.step;
  }
  await file.truncate(end);
  return lastStep;
}

/**
 * Opens a JSON Lines log of metrics. Non-finite numbers are written as the strings "NaN", "Infinity" and "-Infinity".
 *
 * @param options `resumeAfterStep`: keep the records up to that step and drop later ones and a torn last line; without it an
 *   existing file is replaced.
 * @throws PeftError METRICS_LOG_INVALID when the file to resume is not such a log; it is left as it was.
 * @example
 * await using log = await openMetricsLog("run/metrics.jsonl", { resumeAfterStep: 200 });
 * log.append({ step: 201, loss: 0.31 });
 * await log.flush();
 */
export async function openMetricsLog(path: string, options: { resumeAfterStep?: number } = {}): Promise<MetricsLog> {
  const { resumeAfterStep } = options;
  // "a+" creates the file where it is missing and always writes at its end.
  const file = await open(path, resumeAfterStep === undefined ? "w" : "a+");
  let lastStep = Number.NEGATIVE_INFINITY;
  if (resumeAfterStep !== undefined) {
    try {
      lastStep = await cutAfter(file, path, resumeAfterStep);
    } catch (error) {
      await file.close();
      throw error;
    }
  }
  let queue = "";
  let writing: Promise<void> = Promise.resolve();

  const flush = (): Promise<void> => {
    // Chained, so that two flushes at once cannot interleave their bytes.
    writing = writing.then(async () => {
      const text = queue;
      queue = "";
      if (text === "") return;
      await file.appendFile(text);
      await file.datasync(); // A checkpoint that is written next counts on these lines.
    });
    return writing;
  };
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= flush().finally(() => file.close());
    return closing;
  };

  return {
    append(record) {
      if (!(record.step >= lastStep)) {
        throw new PeftError(
          "METRICS_LOG_ORDER",
          `expected a step of at least ${lastStep}, received ${record.step} for ${path}.`,
        );
      }
      lastStep = record.step;
      queue += `${stringifyNumbers(record)}\n`;
    },
    flush,
    close,
    [Symbol.asyncDispose]: close,
  };
}
