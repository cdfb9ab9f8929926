import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { atomicWriteFolder, recoverFolder } from "../../checkpoint/atomic-write.ts";
import { parseConfig } from "../../config/parse-config.ts";
import { PeftError } from "../../errors.ts";
import type { FileEngine } from "../engine-files.ts";

const look = z.strictObject({
  step: z.int().min(0),
  trainLoss: z.number(),
  validationLoss: z.number(),
  gates: z.array(z.number()),
  stable: z.int().min(0),
});
/** The gates at one moment of a search. */
export type SearchLook = z.output<typeof look>;

const file = z.strictObject({
  format: z.literal(1),
  fingerprint: z.string(),
  step: z.int().min(0),
  history: z.array(look),
});

export interface SearchProgress {
  /** Pairs of steps done. */
  readonly step: number;
  readonly history: readonly SearchLook[];
}

/** Where a search keeps its state: parameters and both optimisers' state as safetensors, and `search.json`. */
export interface SearchFolder {
  load(engine: FileEngine): Promise<SearchProgress | null>;
  save(engine: FileEngine, progress: SearchProgress): Promise<void>;
}

const STATE = "search.json";

/**
 * @param fingerprint what must be equal for a search to go on.
 * @throws PeftError from `load` RESUME_MISMATCH, CHECKPOINT_INVALID, CONFIG_INVALID
 */
export async function openSearchFolder(path: string, fingerprint: string): Promise<SearchFolder> {
  await mkdir(path, { recursive: true });
  const checkpoint = join(path, "search");
  await recoverFolder(checkpoint);
  return {
    async load(engine) {
      if (!existsSync(checkpoint)) return null;
      const saved = parseConfig(file, await readJson(join(checkpoint, STATE)), join(checkpoint, STATE));
      if (saved.fingerprint !== fingerprint) {
        throw new PeftError("RESUME_MISMATCH", `expected the search whose state is in ${path}, received another.`, {
          hint: "Use another folder, or delete this one to start again.",
        });
      }
      await engine.restore(checkpoint);
      return { step: saved.step, history: saved.history };
    },
    async save(engine, { step, history }) {
      await atomicWriteFolder(checkpoint, async (folder) => {
        await engine.save(folder);
        await writeFile(join(folder, STATE), JSON.stringify({ format: 1, fingerprint, step, history }));
      });
    },
  };
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw new PeftError("CHECKPOINT_INVALID", `expected the state of a search in JSON at ${path}: ${String(cause)}.`, {
      hint: "Delete the folder to start again.",
      cause,
    });
  }
}
