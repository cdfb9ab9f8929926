import { runOnce } from "../../lowering/testing/check-lowering.ts";
import type { Model } from "../../onnx/ir.ts";
import type { Feeds } from "../../runtime/runtime.ts";

/** y of a model of packed query, key and value for the same x [2, 3, 4]. @param more what else it is fed, as an adapter beside it. */
export async function runPacked(model: Model, more: Feeds = {}): Promise<Float32Array> {
  const data = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i));
  const { y } = await runOnce(model, { x: { type: "float32", dims: [2, 3, 4], data }, ...more });
  return y?.data as Float32Array;
}

/** Largest absolute difference of two results. */
export const difference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (b[i] ?? Number.NaN))), 0);
