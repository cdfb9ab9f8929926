import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { atomicWriteFolder, recoverFolder } from "../checkpoint/atomic-write.ts";
import { parseConfig } from "../config/parse-config.ts";
import { PeftError } from "../errors.ts";
import { readSafetensors, type Safetensors } from "../formats/safetensors/read.ts";
import { encodeSafetensors } from "../formats/safetensors/write.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { earlyStoppingStart } from "./early-stopping.ts";
import type { EngineState } from "./engine.ts";
import { type MetricsLog, openMetricsLog } from "./metrics-log.ts";

const metrics = z.record(z.string(), z.number().or(z.nan()));
const trainerState = z.strictObject({
  step: z.int().min(0),
  losses: z.array(z.number()),
  realTokens: z.number(),
  paddedTokens: z.number(),
  rssBytes: z.number(),
  peakRssBytes: z.number(),
  evaluations: z.array(z.strictObject({ step: z.int(), metrics })),
  best: z.strictObject({ step: z.int(), metrics }).nullable(),
  early: z.strictObject({ best: z.number().nullable(), bestStep: z.number().nullable(), withoutImprovement: z.int() }),
});

/** Everything the loop knows besides parameters and optimiser state. */
export type TrainerState = z.output<typeof trainerState>;

export const startState = (): TrainerState => ({
  step: 0, losses: [], realTokens: 0, paddedTokens: 0, rssBytes: 0, peakRssBytes: 0, evaluations: [], best: null,
  early: { ...earlyStoppingStart },
});

const savedFile = z.strictObject({ format: z.literal(1), fingerprint: z.unknown(), state: trainerState });

type Parameters = Readonly<Record<string, RuntimeTensor>>;

export interface SavedRun {
  readonly state: TrainerState;
  readonly engine: EngineState;
  readonly best: { readonly parameters: Parameters } | null;
}

/** The folder of a run: `checkpoint/` (replaced as a whole) and `metrics.jsonl`. */
export interface RunFolder {
  load(): Promise<SavedRun | null>;
  save(state: TrainerState, engine: EngineState, best: { readonly parameters: Parameters } | null): Promise<void>;
  openLog(resumeAfterStep: number): Promise<MetricsLog>;
}

/**
 * Opens a run's folder, making it when it is not there.
 * @param fingerprint what must be equal for the checkpoint in it to be continued.
 */
export async function openRunFolder(path: string, fingerprint: Record<string, unknown>): Promise<RunFolder> {
  await mkdir(path, { recursive: true });
  const checkpoint = join(path, "checkpoint");
  await recoverFolder(checkpoint);
  const own = JSON.stringify(fingerprint);
  return {
    async load() {
      if (!existsSync(checkpoint)) return null;
      const file = join(checkpoint, "trainer_state.json");
      const saved = parseConfig(savedFile, JSON.parse(await readFile(file, "utf8")), file);
      if (JSON.stringify(saved.fingerprint) !== own) {
        throw new PeftError("RESUME_MISMATCH", `The checkpoint in ${path} was made with other options, data or parameters.`, {
          hint: "Use another folder, or delete its checkpoint to start again.",
          details: { saved: saved.fingerprint, now: fingerprint },
        });
      }
      const optimizer = await readSafetensors(join(checkpoint, "optimizer.safetensors"));
      const best = join(checkpoint, "best.safetensors");
      return {
        state: saved.state,
        engine: {
          parameters: toParameters(await readSafetensors(join(checkpoint, "parameters.safetensors"))),
          optimizer: Object.fromEntries([...optimizer.tensors].map(([name, t]) => [name, toFloat32Array(t)])),
        },
        best: existsSync(best) ? { parameters: toParameters(await readSafetensors(best)) } : null,
      };
    },
    async save(state, engine, best) {
      await atomicWriteFolder(checkpoint, async (folder) => {
        await writeFile(join(folder, "trainer_state.json"), JSON.stringify({ format: 1, fingerprint, state }));
        await writeFile(join(folder, "parameters.safetensors"), encodeParameters(engine.parameters));
        const tensors = Object.entries(engine.optimizer).map(([name, data]) => [name, tensorFrom("float32", [data.length], data)] as const);
        await writeFile(join(folder, "optimizer.safetensors"), encodeSafetensors(tensors));
        if (best) await writeFile(join(folder, "best.safetensors"), encodeParameters(best.parameters));
      });
    },
    openLog: (resumeAfterStep) => openMetricsLog(join(path, "metrics.jsonl"), { resumeAfterStep }),
  };
}

const encodeParameters = (parameters: Parameters): Uint8Array =>
  encodeSafetensors(Object.entries(parameters).map(([name, { dims, data }]) => [name, tensorFrom("float32", dims, data as Float32Array)] as const));

const toParameters = ({ tensors }: Safetensors): Parameters =>
  Object.fromEntries([...tensors].map(([name, t]) => [name, { type: "float32" as const, dims: t.dims, data: toFloat32Array(t) }]));
