import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { hadamardProduct, type Matrix, multiply, scale } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { applyMatrix, columnsOf, placesOf, refusesAxes } from "./convolution.ts";
import { addToWeight, roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { defineMethod, type ParameterSpec } from "./method.ts";
import { corePlaces, tuckerMatrix, tuckerValue } from "./tucker.ts";

// 1. Config
export const lohaConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(8),
  /** The update is multiplied by alpha / r. */
  alpha: z.number().default(8),
  /** Kernels of more than one place as cores with a factor on either side (`tucker.ts`): fewer parameters at convolutions. */
  useEffectiveConv2d: z.boolean().default(false),
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
  alphaPattern: z.record(z.string(), z.number()).default({}),
});
export type LohaConfig = z.output<typeof lohaConfig>;

/** The kernel is made from a core. */
const hasCore = (site: SiteShape, { useEffectiveConv2d }: LohaConfig): boolean =>
  useEffectiveConv2d && site.kind === "conv" && placesOf(site) > 1;

/**
 * LoHa: W' = W + s (w1a·w1b) ∘ (w2a·w2b), the entry-wise product of two products of rank r, so of rank up to r². Hyeon-Woo et
 * al. 2021 (FedPara), arXiv 2108.06098; as in LyCORIS, arXiv 2309.14859. s = alpha / r, w.a [out, r], w.b [r, in]; w2b
 * starts at zero as in `peft` (LyCORIS starts with w2a = 0). Parameters: 2 r (in + out). The change is a product
 * of rank r² whose factors hold the products of all pairs of rows; it is applied as that, or as a dense [out, in] where r² is too large.
 * A convolution of one or two axes has in / groups * places columns: 2 r (out + in / groups * places) parameters. With `useEffectiveConv2d` each
 * product is a core t. [r, r, ...places] with w.a [r, out] and w.b [r, in / groups]: 2 r (out + in / groups + r places).
 */
export const loha = defineMethod<LohaConfig>({
  type: "LOHA",
  paper: "2108.06098",
  kinds: ["linear", "conv"],
  identityAtStart: true,
  neutral: "empty",
  config: lohaConfig,
  defaultTargets: null,
  refuses: (site) => refusesAxes(site, [1, 2]),
  patterns: { r: "rankPattern", alpha: "alphaPattern" },
  // 2. Parameters
  parameters(site, config) {
    const { r } = config;
    const start = kaimingUniform(Math.sqrt(5));
    const isCore = hasCore(site, config);
    const left: ParameterSpec = isCore
      ? { shape: [r, site.outFeatures], free: ["r", null], init: start }
      : { shape: [site.outFeatures, r], free: [null, "r"], init: start };
    const columns = isCore ? (site.weightShape[1] ?? 0) : columnsOf(site);
    const right: ParameterSpec = { shape: [r, columns], free: ["r", null], init: start };
    const core: ParameterSpec = {
      shape: [r, r, ...corePlaces(site.weightShape)],
      free: ["r", "r", null, null],
      init: start,
    };
    return {
      ...(isCore ? { t1: core } : {}),
      w1a: left,
      w1b: right,
      ...(isCore ? { t2: core } : {}),
      w2a: left,
      w2b: { ...right, init: zeros },
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, { r, alpha }) {
    const { inFeatures, outFeatures } = site;
    const [w1a, w1b] = [roleOf(values, "w1a"), roleOf(values, "w1b")];
    const [w2a, w2b] = [roleOf(values, "w2a"), roleOf(values, "w2b")];
    if (site.kind === "linear" && r * r * (inFeatures + outFeatures) < inFeatures * outFeatures) {
      const right = g.reshape(g.mul(g.unsqueeze(w1b, [1]), g.unsqueeze(w2b, [0])), ["?pairs", inFeatures]);
      const left = g.reshape(g.mul(g.unsqueeze(w1a, [2]), g.unsqueeze(w2a, [1])), [outFeatures, "?pairs"]);
      const h = g.fusedMatMul(x, right, { transB: true, alpha: alpha / r }); // [..., r²]
      return g.add(y, g.fusedMatMul(h, left, { transB: true }));
    }
    const product = (core: Value | undefined, a: Value, b: Value): Value =>
      core ? tuckerValue(g, core, a, b) : g.matMul(a, b);
    const change = g.mul(product(values["t1"], w1a, w1b), product(values["t2"], w2a, w2b)); // [out, columns]
    return g.add(y, applyMatrix(g, x, change, site, alpha / r));
  },
  // 4. Delta
  delta(tensors, { r, alpha }, site) {
    const product = (name: "1" | "2"): Matrix => {
      const [core, a, b] = [tensors[`t${name}`], roleOf(tensors, `w${name}a`), roleOf(tensors, `w${name}b`)];
      return core ? tuckerMatrix(core, a, b) : multiply(toMatrix(a), toMatrix(b));
    };
    return { weight: addToWeight(site, scale(hadamardProduct(product("1"), product("2")), alpha / r)) };
  },
  // 5. Keys
  keys: {
    t1: "hada_t1",
    w1a: "hada_w1_a",
    w1b: "hada_w1_b",
    t2: "hada_t2",
    w2a: "hada_w2_a",
    w2b: "hada_w2_b",
  },
});
