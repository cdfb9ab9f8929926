import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { testRandom } from "./check-gradient.ts";

/** An initialiser with numbers within half of `around`; of one name and rank they are the same everywhere. */
export function randomWeight(
  g: Builder,
  name: string,
  dims: readonly number[],
  { around = 0, random = testRandom(name.length + dims.length) }: { around?: number; random?: () => number } = {},
): Value {
  const size = dims.reduce((a, b) => a * b, 1);
  const values = Array.from({ length: size }, () => around + random() - 0.5);
  return g.initializer(name, tensorFrom("float32", dims, values));
}
