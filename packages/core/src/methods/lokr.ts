import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { kron, type Matrix, multiply, scale } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { addToWeight, roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { kroneckerProduct } from "./kronecker.ts";
import { type AdapterTensor, type ByRole, defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const lokrConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(8),
  /** The update is multiplied by alpha / r. */
  alpha: z.number().default(8),
  /** Factor w1 too where that is smaller. */
  decomposeBoth: z.boolean().default(false),
  /** Size of w1's sides; -1: as near to square as the width allows. */
  decomposeFactor: z.int().min(-1).max(65_536).default(-1),
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
  alphaPattern: z.record(z.string(), z.number()).default({}),
});
export type LokrConfig = z.output<typeof lokrConfig>;

/**
 * Two numbers whose product is `size`, the first at most `factor` and not above the second, as near to each other as that
 * allows; `factor` itself where it divides the size.
 */
export function factorization(size: number, factor: number): [number, number] {
  if (factor > 0 && size % factor === 0) return [factor, size / factor];
  const limit = factor === -1 ? size : factor;
  let [m, n] = [1, size];
  while (m < n) {
    let next = m + 1;
    while (size % next !== 0) next++;
    if (next + size / next > m + n || next > limit) break;
    [m, n] = [next, size / next];
  }
  return m > n ? [n, m] : [m, n];
}

/** w1 [l, m] and w2 [k, n] with l·k = out and m·n = in, and which of them are products of rank r. */
function shapesOf({ inFeatures, outFeatures }: SiteShape, { r, decomposeBoth, decomposeFactor }: LokrConfig) {
  const [m, n] = factorization(inFeatures, decomposeFactor);
  const [l, k] = factorization(outFeatures, decomposeFactor);
  return { l, k, m, n, splits1: decomposeBoth && r < Math.max(l, m) / 2, splits2: r < Math.max(k, n) / 2 };
}

const factorOf = (g: Builder, values: ByRole<Value>, name: string): Value =>
  values[name] ?? g.matMul(roleOf(values, `${name}a`), roleOf(values, `${name}b`));

const matrixOf = (tensors: ByRole<AdapterTensor>, name: string): Matrix => {
  const whole = tensors[name];
  return whole
    ? toMatrix(whole)
    : multiply(toMatrix(roleOf(tensors, `${name}a`)), toMatrix(roleOf(tensors, `${name}b`)));
};

/**
 * LoKr: W' = W + s (w1 ⊗ w2) with w1 [l, m], w2 [k, n], out = l·k, in = m·n; each may be a product of rank r. Yeh et al. 2023
 * (LyCORIS), arXiv 2309.14859. s = alpha / r always, as in `peft`. w1 starts at zero (LyCORIS: w2). The Kronecker product
 * is never built: x is read as [m, n] and multiplied from both sides, see `kronecker.ts`.
 */
export const lokr = defineMethod<LokrConfig>({
  type: "LOKR",
  paper: "2309.14859",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: lokrConfig,
  defaultTargets: null,
  patterns: { r: "rankPattern", alpha: "alphaPattern" },
  // 2. Parameters
  parameters(site, config) {
    const { l, k, m, n, splits1, splits2 } = shapesOf(site, config);
    const start = kaimingUniform(Math.sqrt(5));
    const specs: Record<string, ParameterSpec> = {};
    if (splits1) {
      specs["w1a"] = { shape: [l, config.r], init: zeros };
      specs["w1b"] = { shape: [config.r, m], init: start };
    } else specs["w1"] = { shape: [l, m], init: zeros };
    if (splits2) {
      specs["w2a"] = { shape: [k, config.r], init: start };
      specs["w2b"] = { shape: [config.r, n], init: start };
    } else specs["w2"] = { shape: [k, n], init: start };
    return specs;
  },
  // 3. Forward
  forward(g, { x, y }, values, { r, alpha }) {
    const w1 = g.mul(factorOf(g, values, "w1"), alpha / r);
    const w2 = values["w2"] ?? { left: roleOf(values, "w2a"), right: roleOf(values, "w2b") };
    return g.add(y, g.reshapeLike(kroneckerProduct(g, x, w1, w2), y));
  },
  // 4. Delta
  delta: (tensors, { r, alpha }, site) => ({
    weight: addToWeight(site, scale(kron(matrixOf(tensors, "w1"), matrixOf(tensors, "w2")), alpha / r)),
  }),
  // 5. Keys
  keys: { w1: "lokr_w1", w1a: "lokr_w1_a", w1b: "lokr_w1_b", w2: "lokr_w2", w2a: "lokr_w2_a", w2b: "lokr_w2_b" },
});
