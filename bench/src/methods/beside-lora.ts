import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { baseShape } from "./base-shape.ts";
import { type MeasuredMethod, measureCost, measurePeak } from "./measure-cost.ts";

const LAYERS = 4;
const BATCH = 8;
const STEPS = 3;

/** What {@link besideLora} trains, in words. */
export const besideLoraSetup = `${LAYERS} layers of BERT-base's shape with random weights, ${BATCH} sequences of 128 tokens in one run, all linear layers of the encoder adapted; the highest resident memory of the process that trains, and the CPU time of a step on one thread, in alternation.`;

/** Modules of all linear layers. */
export const LINEARS = ["query", "key", "value", "dense"] as const;

export interface BesideLora {
  readonly loraPeakMb: number;
  readonly peakMb: number;
  /** CPU time of a step over that of LoRA. */
  readonly stepRatio: number;
}

/** Peak memory and time of a method beside LoRA of some rank, both at all linear layers, where activations weigh most. */
export async function besideLora(method: Pick<MeasuredMethod, "type" | "config">, r: number): Promise<BesideLora> {
  const folder = await mkdtemp(join(tmpdir(), "onnx-peft-beside-"));
  try {
    const shape = await baseShape(folder, { layers: LAYERS, batch: BATCH });
    const targetModules = [...LINEARS];
    const lora: MeasuredMethod = { type: "LORA", config: { r, targetModules } };
    const other: MeasuredMethod = { type: method.type, config: { ...method.config, targetModules } };
    const { stepMs, referenceMs, peakBytes } = await measureCost(shape, other, lora, STEPS);
    const loraPeak = await measurePeak(shape, lora);
    return { loraPeakMb: loraPeak / 2 ** 20, peakMb: peakBytes / 2 ** 20, stepRatio: stepMs / referenceMs };
  } finally {
    await rm(folder, { recursive: true });
  }
}
