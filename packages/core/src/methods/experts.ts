import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { kaimingUniform, zeros } from "./init.ts";
import type { ByRole, ParameterSpec } from "./method.ts";

/** LoRA factors of several adapters at one linear module, their scales in B: A [experts, r, in], B [experts, out, r]. */
export const expertFactors = (
  site: SiteShape,
  { experts, r, trainable }: { readonly experts: number; readonly r: number; readonly trainable: boolean },
): ByRole<ParameterSpec> => ({
  A: { shape: [experts, r, site.inFeatures], init: kaimingUniform(Math.sqrt(5)), trainable },
  B: { shape: [experts, site.outFeatures, r], init: zeros, trainable },
});

/** @throws PeftError CONFIG_INVALID */
export function checkTopK(topK: number, experts: number): void {
  if (topK <= experts) return;
  throw new PeftError(
    "CONFIG_INVALID",
    `Expected topK of at most ${experts}, the number of experts, received ${topK}.`,
  );
}

/** Names of these tensors after the module's. */
export const expertKeys = { A: "experts.lora_A", B: "experts.lora_B" } as const;

/**
 * sum_e w_e·B_e·A_e·x: two products with the factors of all experts side by side, the weights between them. What experts add to a
 * token is never made one by one. x [..., in], weights [..., experts], A and B as in {@link expertFactors}; result [..., out].
 */
export function weighedExperts(g: Builder, x: Value, weights: Value, A: Value, B: Value): Value {
  const [experts, r, inFeatures] = A.shape as readonly [number, number, number];
  const outFeatures = B.shape[1] as number;
  const h = g.fusedMatMul(x, g.reshape(A, [experts * r, inFeatures]), { transB: true }); // [..., experts · r]
  // Row e of [experts, experts · r] has ones at the r entries of expert e.
  const repeat = Array.from({ length: experts * experts * r }, (_, i) =>
    Math.floor(i / (experts * r)) === Math.floor((i % (experts * r)) / r) ? 1 : 0,
  );
  const each = g.matMul(weights, g.constant("float32", repeat, [experts, experts * r]));
  return g.matMul(g.mul(h, each), g.reshape(g.transpose(B, [0, 2, 1]), [experts * r, outFeatures]));
}

/** Of scores [..., experts] the k largest, as they are or as a softmax over them, in their places; the others are 0. */
export function largest(g: Builder, scores: Value, k: number, mode: "as they are" | "softmax"): Value {
  const axis = scores.shape.length - 1;
  const [values, places] = g.op("TopK", [scores, g.ints([k])], { axis }, { count: 2 }) as [Value, Value];
  const kept = mode === "softmax" ? g.softmax(values) : values;
  return g.scatterElements(g.mul(scores, 0), places, kept, axis);
}
