import { float } from "../graph/attributes.ts";
import { floatAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { type Expansion, type ExpansionContext, required } from "./expansion.ts";
import { positionsOf } from "./heads.ts";

const products = new Set(["MatMul", "Gemm", "FusedMatMul"]);

/**
 * X + Skip + Bias. The bias is the one of the linear layer whose product comes in; it is added to that product first, so that
 * it can be seen to belong there. The order changes the sum by rounding only.
 */
function skipSum(c: ExpansionContext, bias: Value | null): Value {
  const [x, skip] = [required(c, 0), required(c, 1)];
  if (!bias) return c.g.add(x, skip);
  const isProduct = (value: Value): boolean => products.has(c.g.producerOf(value)?.op ?? "");
  return isProduct(skip) && !isProduct(x) ? c.g.add(x, c.g.add(skip, bias)) : c.g.add(c.g.add(x, bias), skip);
}

/** LayerNormalization or its RMS form over the last axis, with the statistics where they are read. */
function normalize(c: ExpansionContext, op: string, inputs: readonly (Value | null)[], fallback: number): Value[] {
  const epsilon = floatAttribute(c.node, "epsilon", fallback);
  const statistics = op === "LayerNormalization" ? 3 : 2;
  const count = c.isRead(1) || c.isRead(2) ? statistics : 1;
  return c.g.op(op, inputs, { axis: -1, epsilon: float(epsilon) }, { count });
}

/** Normalisations with a residual sum or the embeddings inside. */
export const skipNormalizations = {
  /** S = X + Skip + Bias, Y = LayerNormalization(S) * Gamma + Beta. Outputs Y, mean, inverse deviation, S. */
  "com.microsoft::SkipLayerNormalization": (c) => {
    const sum = skipSum(c, c.inputs[4] ?? null);
    const [y, mean, inverse] = normalize(c, "LayerNormalization", [sum, required(c, 2), c.inputs[3] ?? null], 1e-12);
    return [y ?? null, mean ?? null, inverse ?? null, sum];
  },
  /** S = X + Skip + Bias, Y = S / sqrt(mean(S^2) + epsilon) * Gamma. Outputs Y, -, inverse deviation, S. */
  "com.microsoft::SkipSimplifiedLayerNormalization": (c) => {
    const sum = skipSum(c, c.inputs[3] ?? null);
    const [y, inverse] = normalize(c, "SimplifiedLayerNormalization", [sum, required(c, 2)], 1e-12);
    return [y ?? null, null, inverse ?? null, sum];
  },
  /**
   * S = Word[ids] + Position[positions] + Segment[segments], Y = LayerNormalization(S); positions count from 0 when they are
   * not given. Outputs Y, the number of ones in each row of the mask (zeros without a mask), S.
   */
  "com.microsoft::EmbedLayerNormalization": (c) => {
    const { g } = c;
    const [ids, segments, word, positionTable, segmentTable] = [
      required(c, 0),
      c.inputs[1],
      required(c, 2),
      required(c, 3),
      c.inputs[4],
    ];
    const positions = c.inputs[8];
    let sum = g.gather(word, ids);
    sum = g.add(sum, g.gather(positionTable, positions ?? positionsOf(g, ids, 1)));
    if (segments && segmentTable) sum = g.add(sum, g.gather(segmentTable, segments));
    const epsilon = float(floatAttribute(c.node, "epsilon", 1e-12));
    const [y] = g.op("LayerNormalization", [sum, required(c, 5), required(c, 6)], { axis: -1, epsilon });
    return [y ?? null, c.isRead(1) ? maskLengths(c, ids) : null, sum];
  },
} satisfies Record<string, Expansion>;

function maskLengths(c: ExpansionContext, ids: Value): Value {
  const { g } = c;
  const mask = c.inputs[7];
  const ones = mask ? g.cast(g.equal(mask, 1), "int32") : g.cast(g.mul(ids, 0), "int32");
  return g.reduceSum(ones, [1], false);
}
