import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { normal, zeros } from "./init.ts";
import type { ByRole, ParameterSpec } from "./method.ts";

/** A [r, rows] = 0 and B [width, r] ~ N(0, 1) at an embedding, as in peft. */
export const embeddingParameters = ({ inFeatures, outFeatures }: SiteShape, r: number): ByRole<ParameterSpec> => ({
  embeddingA: { shape: [r, inFeatures], free: ["r", null], init: zeros },
  embeddingB: { shape: [outFeatures, r], free: [null, "r"], init: normal(1) },
});

/** LoRA at an embedding: scale·A[:, ids]ᵀ·Bᵀ. Only the columns of A that the batch names are read. */
export function embeddingUpdate(g: Builder, ids: Value, A: Value, B: Value, scale: number): Value {
  const columns = g.gather(A, ids, 1); // [r, ...ids]
  const axes = columns.shape.map((_, axis) => axis);
  const rows = g.transpose(columns, [...axes.slice(1), 0]); // [...ids, r]
  return g.fusedMatMul(rows, B, { transB: true, alpha: scale });
}
