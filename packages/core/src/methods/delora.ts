import { z } from "zod";
import { columnNorms, multiply, rowNorms, scaleColumns, scaleRows } from "../linalg/matrix.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { constant, kaimingUniform, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const deloraConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(8),
  /** Start of the trained bound lambda. */
  deloraLambda: z.number().default(15),
  /** Share of the input that the update does not see in training. */
  moduleDropout: z.number().min(0).lt(1).default(0),
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
  lambdaPattern: z.record(z.string(), z.number()).default({}),
});
export type DeloraConfig = z.output<typeof deloraConfig>;

/** Norms below this count as this, so that a start at zero has a direction to go. */
const SMALLEST = 1e-4;

/**
 * DeLoRA: direction and strength of the update are trained apart. Bini et al., ICLR 2025, arXiv 2503.18225.
 *   dW = B·diag(lambda / (r |a_k| |b_k|))·A·diag(w), a_k row k of A [r, in], b_k column k of B [out, r] = 0, w [in] the norms of W's
 * columns when the adapter was made (saved, not trained), lambda one number. Parameters: r (in + out) + 1 per site.
 */
export const delora = defineMethod<DeloraConfig>({
  type: "DELORA",
  paper: "2503.18225",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: deloraConfig,
  defaultTargets: null,
  patterns: { r: "rankPattern", deloraLambda: "lambdaPattern" },
  // 2. Parameters
  parameters: ({ inFeatures, outFeatures }, { r, deloraLambda }) => ({
    A: { shape: [r, inFeatures], init: kaimingUniform(Math.sqrt(5)) },
    B: { shape: [outFeatures, r], init: zeros },
    lambda: { shape: [1], init: constant(deloraLambda) },
    norms: { shape: [inFeatures], trainable: false, init: zeros },
  }),
  start: ({ site, frozen }) => ({ norms: Float32Array.from(columnNorms(frozenMatrix(site, frozen))) }),
  // 3. Forward
  forward(g, { x, y }, values, { r, moduleDropout }) {
    const [a, b] = [roleOf(values, "A"), roleOf(values, "B")];
    // Bounded before the root, whose gradient at zero is infinite.
    const norm = (squares: typeof a) => g.sqrt(g.max(squares, SMALLEST ** 2));
    const lengthsA = norm(g.reduceSum(g.mul(a, a), [1], false)); // [r]
    const lengthsB = norm(g.reduceSum(g.mul(b, b), [0], false));
    const scales = g.div(g.mul(roleOf(values, "lambda"), 1 / r), g.mul(lengthsA, lengthsB));
    const h = g.fusedMatMul(g.mul(g.dropout(x, moduleDropout), roleOf(values, "norms")), a, { transB: true });
    return g.add(y, g.fusedMatMul(g.mul(h, scales), b, { transB: true }));
  },
  // 4. Delta
  delta(tensors, { r }, site) {
    const [a, b] = [toMatrix(roleOf(tensors, "A")), toMatrix(roleOf(tensors, "B"))];
    const [lengthsA, lengthsB] = [rowNorms(a), columnNorms(b)];
    const lambda = roleOf(tensors, "lambda").data[0] ?? 0;
    const scales = lengthsA.map(
      (n, k) => lambda / r / (Math.max(n, SMALLEST) * Math.max(lengthsB[k] as number, SMALLEST)),
    );
    const product = multiply(b, scaleRows(a, scales));
    return { weight: addToWeight(site, scaleColumns(product, roleOf(tensors, "norms").data)) };
  },
  // 5. Keys
  keys: { A: "delora_A", B: "delora_B", lambda: "delora_lambda", norms: "delora_w_norm" },
  peft: { only: { bias: ["none"] } },
});
