import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { atomicWriteFolder } from "../checkpoint/atomic-write.ts";
import type { FileEngine } from "./engine-files.ts";
import { historyOf } from "./history.ts";
import { openMetricsLog, readMetrics, stringifyNumbers } from "./metrics-log.ts";
import {
  checkFingerprint,
  type RunFolder,
  readState,
  recoverCheckpoint,
  STATE,
  startState,
  trainerState,
} from "./run-folder.ts";

const saved = z.strictObject({ fingerprint: z.unknown(), state: trainerState });
const savedFile = z.strictObject({ format: z.literal(1), members: z.record(z.string(), saved) });

/** The folder of several trainings: one checkpoint of all, replaced as a whole, and `metrics/<adapter>.jsonl`. */
export interface SeveralFolder {
  /**
   * One training's part. Saving hands over its state and waits for `checkpoint`.
   * @param fingerprint what must be equal for it to be continued.
   */
  member(name: string, fingerprint: Record<string, unknown>, checkpoint: () => Promise<void>): RunFolder;
  /** Writes what all have handed over, with the engine's state. */
  commit(): Promise<void>;
}

/**
 * @param engine the engine of all.
 * @throws PeftError WRITE_FAILED, CHECKPOINT_INVALID, CONFIG_INVALID; from `load` RESUME_MISMATCH, METRICS_LOG_INVALID
 */
export async function openSeveralFolder(path: string, engine: FileEngine): Promise<SeveralFolder> {
  const checkpoint = await recoverCheckpoint(path);
  await mkdir(join(path, "metrics"), { recursive: true });
  const file = existsSync(checkpoint) ? await readState(join(checkpoint, STATE), savedFile) : null;
  const members = new Map(Object.entries(file?.members ?? {}));
  let restored: Promise<void> | undefined;
  return {
    member(name, fingerprint, written) {
      const logPath = join(path, "metrics", `${encodeURIComponent(name)}.jsonl`);
      return {
        async load() {
          const own = file?.members[name];
          if (!file) return null;
          checkFingerprint(path, own?.fingerprint ?? {}, fingerprint);
          const state = own?.state ?? startState();
          const records = existsSync(logPath) ? await readMetrics(logPath) : [];
          return { state: { ...state }, history: historyOf(records, state.step, logPath) };
        },
        async restore() {
          restored ??= engine.restore(checkpoint);
          await restored;
        },
        async save(state, _, log) {
          await log.flush();
          members.set(name, { fingerprint, state: structuredClone(state) });
          await written();
        },
        openLog: (resumeAfterStep) => openMetricsLog(logPath, { resumeAfterStep }),
      };
    },
    commit: () =>
      atomicWriteFolder(checkpoint, async (folder) => {
        await engine.save(folder);
        const content = { format: 1, members: Object.fromEntries(members) };
        await writeFile(join(folder, STATE), stringifyNumbers(content));
      }),
  };
}
