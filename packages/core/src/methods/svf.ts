import { z } from "zod";
import { multiply, scaleRows, subtract } from "../linalg/matrix.ts";
import { svd } from "../linalg/svd.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config: nothing but which modules.
export const svfConfig = z.strictObject({});

/**
 * CLIP-SVD's adapter: with W = U·diag(s0)·V only the singular values s are trained, W' = U·diag(s)·V. Koleilat et al. 2025, arXiv 2509.03740. Computed as
 * y + ((x·Vᵀ) * (s - s0))·Uᵀ, so the start is the base bit for bit, W may be quantised, and weight decay acts on s. U and V come from the base
 * again when a file is read; s and s0 are in it. Parameters: min(in, out) per site. Sites of query, key and value have a
 * decomposition each. Making it costs one SVD per site.
 */
export const svf = defineMethod<object>({
  type: "SVF",
  paper: "2509.03740",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: svfConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }) {
    const r = Math.min(inFeatures, outFeatures);
    const frozen = { init: zeros, trainable: false } as const;
    return {
      s: { shape: [r], init: zeros },
      s0: { shape: [r], ...frozen },
      U: { shape: [outFeatures, r], ...frozen, saved: false },
      V: { shape: [r, inFeatures], ...frozen, saved: false },
    };
  },
  start({ site, frozen }) {
    const { u, s, vt } = svd(frozenMatrix(site, frozen));
    const values = Float32Array.from(s);
    return { s: values, s0: values.slice(), U: Float32Array.from(u.data), V: Float32Array.from(vt.data) };
  },
  // 3. Forward
  forward(g, { x, y }, values) {
    const h = g.fusedMatMul(x, roleOf(values, "V"), { transB: true }); // [..., r]
    const shifted = g.mul(h, g.sub(roleOf(values, "s"), roleOf(values, "s0")));
    return g.add(y, g.fusedMatMul(shifted, roleOf(values, "U"), { transB: true }));
  },
  // 4. Delta: U·diag(s - s0)·V
  delta(tensors, _, site) {
    const shift = subtract(toMatrix(roleOf(tensors, "s")), toMatrix(roleOf(tensors, "s0"))).data;
    const product = multiply(toMatrix(roleOf(tensors, "U")), scaleRows(toMatrix(roleOf(tensors, "V")), shift));
    return { weight: addToWeight(site, product) };
  },
  // The factors are those of the weight it was made for.
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { s: "svf_s", s0: "svf_s0", U: "svf_U", V: "svf_V" },
});
