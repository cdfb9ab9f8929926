import { z } from "zod";
import { hadamardProduct, multiply, scale } from "../linalg/matrix.ts";
import { addToWeight, roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const lohaConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(8),
  /** The update is multiplied by alpha / r. */
  alpha: z.number().default(8),
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
  alphaPattern: z.record(z.string(), z.number()).default({}),
});
export type LohaConfig = z.output<typeof lohaConfig>;

/**
 * LoHa: W' = W + s (w1a·w1b) ∘ (w2a·w2b), the entry-wise product of two products of rank r, so of rank up to r². Hyeon-Woo et
 * al. 2021 (FedPara), arXiv 2108.06098; as in LyCORIS, arXiv 2309.14859. s = alpha / r, w.a [out, r], w.b [r, in]; w2b
 * starts at zero as in `peft` (LyCORIS starts with w2a = 0). Parameters: 2 r (in + out). The change is a product
 * of rank r² whose factors hold the products of all pairs of rows; it is applied as that, or as a dense [out, in] where r² is too large.
 */
export const loha = defineMethod<LohaConfig>({
  type: "LOHA",
  paper: "2108.06098",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: lohaConfig,
  defaultTargets: null,
  patterns: { r: "rankPattern", alpha: "alphaPattern" },
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, { r }) {
    const start = kaimingUniform(Math.sqrt(5));
    return {
      w1a: { shape: [outFeatures, r], free: [null, "r"], init: start },
      w1b: { shape: [r, inFeatures], free: ["r", null], init: start },
      w2a: { shape: [outFeatures, r], free: [null, "r"], init: start },
      w2b: { shape: [r, inFeatures], free: ["r", null], init: zeros },
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { r, alpha }) {
    const { inFeatures, outFeatures } = site;
    const [w1a, w1b] = [roleOf(values, "w1a"), roleOf(values, "w1b")];
    const [w2a, w2b] = [roleOf(values, "w2a"), roleOf(values, "w2b")];
    if (r * r * (inFeatures + outFeatures) < inFeatures * outFeatures) {
      const right = g.reshape(g.mul(g.unsqueeze(w1b, [1]), g.unsqueeze(w2b, [0])), ["?pairs", inFeatures]);
      const left = g.reshape(g.mul(g.unsqueeze(w1a, [2]), g.unsqueeze(w2a, [1])), [outFeatures, "?pairs"]);
      const h = g.fusedMatMul(x, right, { transB: true, alpha: alpha / r }); // [..., r²]
      return g.add(y, g.fusedMatMul(h, left, { transB: true }));
    }
    const change = g.mul(g.matMul(w1a, w1b), g.matMul(w2a, w2b)); // [out, in]
    return g.add(y, g.fusedMatMul(x, change, { transB: true, alpha: alpha / r }));
  },
  // 4. Delta
  delta(tensors, { r, alpha }, site) {
    const product = (a: string, b: string) => multiply(toMatrix(roleOf(tensors, a)), toMatrix(roleOf(tensors, b)));
    return {
      weight: addToWeight(site, scale(hadamardProduct(product("w1a", "w1b"), product("w2a", "w2b")), alpha / r)),
    };
  },
  // 5. Keys
  keys: { w1a: "hada_w1_a", w1b: "hada_w1_b", w2a: "hada_w2_a", w2b: "hada_w2_b" },
});
