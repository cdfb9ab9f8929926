import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { atomicWriteFolder, isTemporaryName, recoverFolder } from "../checkpoint/atomic-write.ts";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { earlyStoppingStart } from "./early-stopping.ts";
import type { FileEngine } from "./engine-files.ts";
import { type History, historyOf } from "./history.ts";
import { type MetricsLog, openMetricsLog, parseNumbers, readMetrics, stringifyNumbers } from "./metrics-log.ts";

/** z.number() refuses NaN and infinities, which a metric may be. */
const metrics = z.record(
  z.string(),
  z.custom<number>((value) => typeof value === "number", "expected a number"),
);
export const trainerState = z.strictObject({
  step: z.int().min(0),
  realTokens: z.number(),
  paddedTokens: z.number(),
  best: z.strictObject({ step: z.int(), metrics }).nullable(),
  early: z.strictObject({ best: z.number().nullable(), bestStep: z.number().nullable(), withoutImprovement: z.int() }),
});

/**
 * Everything the loop knows besides parameters, optimiser state and history. Of fixed size: losses and evaluations are
 * read back from metrics.jsonl, so that a checkpoint of a long run costs no more than one of a short run.
 */
export type TrainerState = z.output<typeof trainerState>;

export const startState = (): TrainerState => ({
  step: 0,
  realTokens: 0,
  paddedTokens: 0,
  best: null,
  early: { ...earlyStoppingStart },
});

const savedFile = z.strictObject({ format: z.literal(2), fingerprint: z.unknown(), state: trainerState });
export const STATE = "trainer_state.json";

/** The folder of a run: `checkpoint/` (replaced as a whole) and `metrics.jsonl`. */
export interface RunFolder {
  /** What the checkpoint knows; null when there is none. */
  load(): Promise<{ readonly state: TrainerState; readonly history: History } | null>;
  /** Puts the engine where the checkpoint left it. */
  restore(engine: FileEngine): Promise<void>;
  /** Log first: once it returns, checkpoint and history belong together. */
  save(state: TrainerState, engine: FileEngine, log: MetricsLog): Promise<void>;
  openLog(resumeAfterStep: number): Promise<MetricsLog>;
}

/**
 * Opens a run's folder, making it when it is not there. It belongs to one run at a time: what a killed run left half
 * written is removed.
 *
 * @param fingerprint plain JSON; what must be equal for the checkpoint in the folder to be continued.
 * @throws PeftError WRITE_FAILED; from `load` RESUME_MISMATCH naming what differs, CHECKPOINT_INVALID, CONFIG_INVALID,
 *   METRICS_LOG_INVALID; from `restore` SAFETENSORS_INVALID, STATE_MISMATCH, OPTIMIZER_STATE_MISMATCH
 */
export async function openRunFolder(path: string, fingerprint: Record<string, unknown>): Promise<RunFolder> {
  const checkpoint = await recoverCheckpoint(path);
  const logPath = join(path, "metrics.jsonl");
  return {
    async load() {
      if (!existsSync(checkpoint)) return null;
      const saved = await readState(join(checkpoint, STATE), savedFile);
      checkFingerprint(path, saved.fingerprint, fingerprint);
      const records = existsSync(logPath) ? await readMetrics(logPath) : [];
      const history = historyOf(records, saved.state.step, logPath);
      return { state: saved.state, history };
    },
    restore: (engine) => engine.restore(checkpoint),
    async save(state, engine, log) {
      await log.flush();
      await atomicWriteFolder(checkpoint, async (folder) => {
        await engine.save(folder);
        await writeFile(join(folder, STATE), stringifyNumbers({ format: 2, fingerprint, state }));
      });
    },
    openLog: (resumeAfterStep) => openMetricsLog(logPath, { resumeAfterStep }),
  };
}

/** @throws PeftError RESUME_MISMATCH naming what differs between the run that was saved and the one that goes on. */
export function checkFingerprint(path: string, saved: unknown, now: Record<string, unknown>): void {
  const differences = differingPaths(saved, parseNumbers(stringifyNumbers(now)));
  if (differences.length === 0) return;
  throw new PeftError(
    "RESUME_MISMATCH",
    `expected the run that made the checkpoint in ${path}, received another: ${differences.join(", ")} differ.`,
    { hint: "Use another folder, or delete this one to start again.", details: { differences, saved, now } },
  );
}

/** Puts a checkpoint that was being replaced in order, and removes what a killed run left half written. */
export async function recoverCheckpoint(path: string): Promise<string> {
  await mkdir(path, { recursive: true });
  const checkpoint = join(path, "checkpoint");
  await recoverFolder(checkpoint);
  for (const name of await readdir(path)) {
    if (name.startsWith(".checkpoint.") && isTemporaryName(name)) await rm(join(path, name), { recursive: true });
  }
  return checkpoint;
}

/** @throws PeftError CHECKPOINT_INVALID, CONFIG_INVALID */
export async function readState<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    value = parseNumbers(await readFile(path, "utf8"));
  } catch (cause) {
    throw new PeftError("CHECKPOINT_INVALID", `expected the state of a run in JSON at ${path}: ${String(cause)}.`, {
      hint: "Delete the checkpoint folder to start again.",
      cause,
    });
  }
  return parseConfig(schema, value, path);
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Dotted paths at which two JSON values differ, whatever the order of their keys. */
function differingPaths(a: unknown, b: unknown, path = ""): string[] {
  if (isRecord(a) && isRecord(b)) {
    const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
    return [...keys].flatMap((key) => differingPaths(a[key], b[key], path === "" ? key : `${path}.${key}`));
  }
  return stringifyNumbers(a) === stringifyNumbers(b) ? [] : [path === "" ? "everything" : path];
}
