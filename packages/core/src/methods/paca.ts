import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import { columnNorms, matrix } from "../linalg/matrix.ts";
import { addToWeight, frozenMatrix, roleOf } from "./dense.ts";
import { zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const pacaConfig = z.strictObject({
  /** Number of input columns that are trained. */
  r: z.int().positive().max(65_536).default(8),
  /** The trained columns are divided by alpha / r, which acts on the learning rate only. */
  alpha: z.number().positive().default(8),
  /** Which columns: drawn, or those of largest norm. */
  selection: z.enum(["random", "weightNorm"]).default("random"),
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
  alphaPattern: z.record(z.string(), z.number().positive()).default({}),
});
export type PacaConfig = z.output<typeof pacaConfig>;

const scaleOf = ({ r, alpha }: PacaConfig): number => alpha / r;

/** Column k of a matrix [out, in] that is stored row by row. */
const columnsOf = (
  data: ArrayLike<number>,
  { inFeatures, outFeatures }: SiteShape,
  columns: ArrayLike<number>,
): Float64Array =>
  Float64Array.from({ length: outFeatures * columns.length }, (_, i) => {
    const column = columns[i % columns.length] as number;
    return data[Math.floor(i / columns.length) * inFeatures + column] as number;
  });

/**
 * PaCA: r input columns of the weight are trained in place, everything else is frozen. Woo et al. 2025, arXiv 2503.01905.
 *   W'[:, idx_k] = s P[:, k], P [out, r] = W[:, idx] / s at the start, s = alpha / r, idx drawn once and saved.
 * Computed as y + x[idx]·(s P - W[:, idx])ᵀ: of the input only the r gathered features are kept for the backward pass, and one
 * thin product is added (LoRA adds two). Parameters: r·out. A file holds the columns themselves and fits one base model.
 */
export const paca = defineMethod<PacaConfig>({
  type: "PACA",
  paper: "2503.01905",
  kinds: ["linear"],
  identityAtStart: "rounded",
  neutral: "empty",
  config: pacaConfig,
  defaultTargets: null,
  patterns: { r: "rankPattern", alpha: "alphaPattern" },
  // 2. Parameters
  parameters({ name, inFeatures, outFeatures }, { r }) {
    if (r > inFeatures) {
      throw new PeftError(
        "RANK_TOO_LARGE",
        `PaCA trains ${r} columns; "${name}" [${outFeatures}, ${inFeatures}] has ${inFeatures}.`,
        {
          hint: "Lower r or set rankPattern for this module.",
        },
      );
    }
    return {
      P: { shape: [outFeatures, r], free: [null, "r"], init: zeros },
      indices: { shape: [r], free: ["r"], init: zeros, trainable: false, fileType: "int64" },
    };
  },
  start({ site, config, frozen, random }) {
    const w = frozenMatrix(site, frozen);
    const order =
      config.selection === "random"
        ? random.permutation(site.inFeatures)
        : [...columnNorms(w)]
            .map((norm, i) => ({ norm, i }))
            .sort((a, b) => b.norm - a.norm || a.i - b.i)
            .map(({ i }) => i);
    const indices = Float32Array.from(order.slice(0, config.r));
    return { indices, P: Float32Array.from(columnsOf(w.data, site, indices), (v) => v / scaleOf(config)) };
  },
  // 3. Forward
  forward(g, { x, y, weight }, values, config) {
    const indices = g.cast(roleOf(values, "indices"), "int64");
    const chosen = g.gather(x, indices, x.shape.length - 1); // [..., r]
    const change = g.sub(g.mul(roleOf(values, "P"), scaleOf(config)), g.gather(weight(), indices, 1)); // [out, r]
    return g.add(y, g.fusedMatMul(chosen, change, { transB: true }));
  },
  // 4. Delta
  delta(tensors, config, site, frozen) {
    const { data: indices } = roleOf(tensors, "indices");
    const { data: p } = roleOf(tensors, "P");
    const w = frozenMatrix(site, frozen);
    const old = columnsOf(w.data, site, indices);
    const change = matrix(site.outFeatures, site.inFeatures);
    p.forEach((value, i) => {
      const column = indices[i % indices.length] as number;
      if (!(column >= 0 && column < site.inFeatures))
        throw new PeftError(
          "PARAMETER",
          `Column ${column} lies outside "${site.name}" [${site.outFeatures}, ${site.inFeatures}].`,
        );
      change.data[Math.floor(i / indices.length) * site.inFeatures + column] =
        value * scaleOf(config) - (old[i] as number);
    });
    return { weight: addToWeight(site, change) };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { P: "paca_w", indices: "paca_indices" },
  peft: { names: { alpha: "paca_alpha" }, only: { bias: ["none"] } },
});
