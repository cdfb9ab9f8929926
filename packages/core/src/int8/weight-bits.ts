import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { largestCode, type WeightBits } from "./quantize-columns.ts";

const [ROWS, INNER, COLUMNS] = [8, 64, 32];
const known = new WeakMap<Runtime, Promise<WeightBits>>();

/**
 * How many bits a weight may have on this machine: 8, or 7 where the runtime's integer kernels add two products in 16 bits
 * that saturate (x86 with AVX2 and without VNNI: 255 * 127 * 2 is above 32,767). Measured, not read from the processor's name:
 * a product of the largest numbers is computed, the same operator and sizes that take the same kernel, and compared with the
 * exact result. Once per runtime and process, some milliseconds.
 * @example
 * await detectWeightBits(onnxruntimeNode); // 8 with AVX-512 VNNI
 */
export function detectWeightBits(runtime: Runtime): Promise<WeightBits> {
  const result = known.get(runtime) ?? measure(runtime);
  known.set(runtime, result);
  return result;
}

/** True when `sums` of products of the largest activations and weights came out exactly: 255 * 127 * 64. */
export const isExact = (sums: ArrayLike<number>): boolean =>
  Array.from(sums).every((sum) => Math.abs(sum / (largestCode[8] * INNER) - 1) < 1e-3);

async function measure(runtime: Runtime): Promise<WeightBits> {
  const g = createBuilder();
  const x = g.input("x", "float32", [ROWS, INNER]);
  const codes = new Int8Array(INNER * COLUMNS).fill(largestCode[8]);
  const weight = g.initializer("weight", tensorFrom("int8", [INNER, COLUMNS], codes));
  const scale = g.initializer("scale", tensorFrom("float32", [COLUMNS], new Float32Array(COLUMNS).fill(1)));
  const [y] = g.op("DynamicQuantizeMatMul", [x, weight, scale], {}, { domain: "com.microsoft" });
  if (y) g.output(y, "y");
  const session = await runtime.open(encodeModel(toModel(g.finish(), g.opset)));
  try {
    // All ones: rounded to 255 with scale 1 / 255.
    const feed = { type: "float32", dims: [ROWS, INNER], data: new Float32Array(ROWS * INNER).fill(1) } as const;
    return isExact((await session.run({ x: feed }))["y"]?.data as Float32Array) ? 8 : 7;
  } finally {
    await session.close();
  }
}
