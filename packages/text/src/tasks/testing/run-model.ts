import { encodeModel, type Feeds, type Model, type Outputs, onnxruntimeNode } from "@onnx-peft/core";

/** Outputs of one run of a model. */
export async function runModel(model: Model | string, feeds: Feeds): Promise<Outputs> {
  const session = await onnxruntimeNode.open(typeof model === "string" ? model : encodeModel(model), { threads: 1 });
  try {
    return await session.run(feeds);
  } finally {
    await session.close();
  }
}

/** Largest difference of two lists of numbers of the same length. */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return Array.from(a).reduce((largest, v, i) => Math.max(largest, Math.abs(v - (b[i] as number))), 0);
}
