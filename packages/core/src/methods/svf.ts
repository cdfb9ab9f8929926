import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { multiply, scaleRows, subtract } from "../linalg/matrix.ts";
import { svd } from "../linalg/svd.ts";
import type { Value } from "../onnx/ir.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { zeros } from "./init.ts";
import { type ByRole, defineMethod, type FrozenSite, type ParameterSpec } from "./method.ts";

// 1. Config
export const svfConfig = z.strictObject({
  /** "delta": the change is added to the frozen product. "absolute": the published form, the factors in the place of W. */
  parametrization: z.enum(["delta", "absolute"]).default("delta"),
  /** Where weight decay pulls the singular values: to zero as published, or to those of the base. */
  decayTowards: z.enum(["zero", "base"]).default("zero"),
});
export type SvfConfig = z.output<typeof svfConfig>;

/** Start values: the decomposition of the frozen weight. */
function factorsOf(site: SiteShape, frozen: FrozenSite): ByRole<Float32Array> {
  const { u, s, vt } = svd(frozenMatrix(site, frozen));
  const s0 = Float32Array.from(s);
  return { s: s0.slice(), s0, U: Float32Array.from(u.data), V: Float32Array.from(vt.data) };
}

/** s - s0, which with decay towards the base is itself what is trained. */
const shiftOf = (g: Builder, values: ByRole<Value>): Value =>
  values["shift"] ?? g.sub(roleOf(values, "s"), roleOf(values, "s0"));

/**
 * CLIP-SVD's adapter: with W = U·diag(s0)·V only the singular values s are trained, W' = U·diag(s)·V. Koleilat et al. 2025, arXiv 2509.03740. Computed as
 * y + ((x·Vᵀ) * (s - s0))·Uᵀ, so the start is the base bit for bit, W may be quantised, and weight decay acts on s ("base": on s - s0). "absolute" is
 * the published ((x·Vᵀ) * s)·Uᵀ + c. U and V come from the base again when a file is read; s and s0 are in it. Parameters: min(in, out) per
 * site. Sites of query, key and value have a decomposition each. Making it costs one SVD per site.
 */
export const svf = defineMethod<SvfConfig>({
  type: "SVF",
  paper: "2509.03740",
  kinds: ["linear"],
  identityAtStart: ({ parametrization }) => (parametrization === "delta" ? true : "rounded"),
  neutral: "empty",
  config: svfConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters(site, { parametrization, decayTowards }) {
    const { inFeatures, outFeatures } = site;
    const r = Math.min(inFeatures, outFeatures);
    // Without an adapter the published form still needs the base's factors.
    const spec = (role: string, shape: readonly number[], more: Partial<ParameterSpec> = {}): ParameterSpec => ({
      shape,
      init: zeros,
      ...(parametrization === "absolute" && role !== "shift"
        ? { neutral: (frozen) => roleOf(factorsOf(site, frozen), role) }
        : {}),
      ...more,
    });
    const trained = decayTowards === "zero" ? "s" : "shift";
    return {
      [trained]: spec(trained, [r]),
      s0: spec("s0", [r], { trainable: false, witness: ({ made }) => made("s0").data }),
      U: spec("U", [outFeatures, r], { trainable: false, saved: false }),
      V: spec("V", [r, inFeatures], { trainable: false, saved: false }),
    };
  },
  start({ site, config, frozen }) {
    const factors = factorsOf(site, frozen);
    if (config.decayTowards === "zero") return factors;
    return { ...factors, shift: new Float32Array(roleOf(factors, "s0").length) };
  },
  // 3. Forward
  forward(g, { x, y, bias }, values, { parametrization }) {
    const h = g.fusedMatMul(x, roleOf(values, "V"), { transB: true }); // [..., r]
    const shift = shiftOf(g, values);
    const factor = parametrization === "delta" ? shift : (values["s"] ?? g.add(roleOf(values, "s0"), shift));
    const product = g.fusedMatMul(g.mul(h, factor), roleOf(values, "U"), { transB: true });
    if (parametrization === "delta") return g.add(y, product);
    const c = bias();
    return c ? g.add(product, c) : product;
  },
  // 4. Delta: U·diag(s - s0)·V
  delta(tensors, _, site) {
    const shift =
      tensors["shift"]?.data ?? subtract(toMatrix(roleOf(tensors, "s")), toMatrix(roleOf(tensors, "s0"))).data;
    const product = multiply(toMatrix(roleOf(tensors, "U")), scaleRows(toMatrix(roleOf(tensors, "V")), shift));
    return { weight: addToWeight(site, product) };
  },
  // The factors are those of the weight it was made for.
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { s: "svf_s", shift: "svf_shift", s0: "svf_s0", U: "svf_U", V: "svf_V" },
});
