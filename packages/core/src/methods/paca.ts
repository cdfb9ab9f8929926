import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import { columnNorms, type Matrix, matrix } from "../linalg/matrix.ts";
import type { Random } from "../random/random.ts";
import { addToWeight, frozenMatrix, roleOf } from "./dense.ts";
import { zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const pacaConfig = z.strictObject({
  /** Number of input columns that are trained. */
  r: z.int().positive().max(65_536).default(8),
  /** The trained columns are divided by alpha / r, which acts on the learning rate only. */
  alpha: z.number().positive().default(8),
  /** Which columns: drawn, those of largest norm, or these at every module. */
  selection: z.union([z.enum(["random", "weightNorm"]), z.array(z.int().min(0)).max(65_536)]).default("random"),
  /**
   * How the same function is computed. "delta": a thin product is added to the frozen one. "split": the frozen product without
   * the chosen inputs, and theirs. "inPlace": the columns are written into a copy of the weight that the graph makes in every run.
   */
  form: z.enum(["delta", "split", "inPlace"]).default("delta"),
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

/** Norms of some columns. */
function normsOf(columns: Float64Array, count: number): Float32Array {
  const squares = new Float64Array(count);
  columns.forEach((v, i) => {
    squares[i % count] = (squares[i % count] as number) + v * v;
  });
  return Float32Array.from(squares, Math.sqrt);
}

function chosenColumns(
  w: Matrix,
  { name, inFeatures }: SiteShape,
  { r, selection }: PacaConfig,
  random: Random,
): Float32Array {
  if (selection === "random") return Float32Array.from(random.permutation(inFeatures).subarray(0, r));
  if (selection === "weightNorm") {
    const byNorm = [...columnNorms(w)].map((norm, i) => ({ norm, i })).sort((a, b) => b.norm - a.norm || a.i - b.i);
    return Float32Array.from(byNorm.slice(0, r), ({ i }) => i);
  }
  const distinct = new Set(selection.filter((column) => column < inFeatures));
  if (selection.length === r && distinct.size === r) return Float32Array.from(selection);
  throw new PeftError(
    "CONFIG_INVALID",
    `PaCA at "${name}": expected ${r} distinct columns below ${inFeatures}, received [${selection.slice(0, 8).join(", ")}${selection.length > 8 ? ", ..." : ""}].`,
    { hint: "Give as many columns as r says." },
  );
}

/**
 * PaCA: r input columns of the weight are trained in place, everything else is frozen. Woo et al. 2025, arXiv 2503.01905.
 *   W'[:, idx_k] = s P[:, k], P [out, r] = W[:, idx] / s at the start, s = alpha / r, idx drawn once and saved.
 * Computed as y + x[idx]·(s P - W[:, idx])ᵀ: of the input only the r gathered features are kept for the backward pass, and one
 * thin product is added (LoRA adds two). Parameters: r·out. A file holds the columns themselves and fits one base model, which is
 * recognised by their norms. The published loop writes columns late, so that an evaluation right after a step sees old ones; here
 * they are always those of the last step.
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
  parameters(site, { r }) {
    const { name, inFeatures, outFeatures } = site;
    if (r > inFeatures) {
      throw new PeftError(
        "RANK_TOO_LARGE",
        `PaCA trains ${r} columns; "${name}" [${outFeatures}, ${inFeatures}] has ${inFeatures}.`,
        {
          hint: "Lower r or set rankPattern for this module.",
        },
      );
    }
    const indices = { trainable: false, fileType: "int64" } as const;
    return {
      P: { shape: [outFeatures, r], free: [null, "r"], init: zeros },
      indices: { shape: [r], free: ["r"], init: zeros, ...indices },
      norms: {
        shape: [r],
        free: ["r"],
        init: zeros,
        trainable: false,
        witness: ({ tensors, frozen }) =>
          normsOf(columnsOf(frozenMatrix(site, frozen).data, site, roleOf(tensors, "indices").data), r),
      },
    };
  },
  start({ site, config, frozen, random }) {
    const w = frozenMatrix(site, frozen);
    const indices = chosenColumns(w, site, config, random);
    const columns = columnsOf(w.data, site, indices);
    return {
      indices,
      P: Float32Array.from(columns, (v) => v / scaleOf(config)),
      norms: normsOf(columns, config.r),
    };
  },
  // 3. Forward
  forward(g, { x, y, weight, bias, base }, values, config) {
    const indices = g.cast(roleOf(values, "indices"), "int64");
    const columns = g.mul(roleOf(values, "P"), scaleOf(config)); // [out, r]
    const axis = x.shape.length - 1;
    if (config.form === "delta") {
      const change = g.sub(columns, g.gather(weight(), indices, 1));
      return g.add(y, g.fusedMatMul(g.gather(x, indices, axis), change, { transB: true }));
    }
    if (config.form === "split") {
      const ones = g.filled([x.shape[axis] as number], 1);
      const others = g.scatterElements(ones, indices, g.mul(g.cast(indices, "float32"), 0), 0);
      return g.add(base(g.mul(x, others)), g.fusedMatMul(g.gather(x, indices, axis), columns, { transB: true }));
    }
    // The product's own gradient by the weight would be [out, in]: that of P comes from a product that adds nothing.
    const fixed = g.stopGradient(columns);
    const places = g.add(g.mul(columns, 0), g.cast(indices, "float32"));
    const effective = g.scatterElements(weight(), g.cast(g.stopGradient(places), "int64"), fixed, 1);
    const chosen = g.stopGradient(g.gather(x, indices, axis));
    const product = g.fusedMatMul(x, effective, { transB: true });
    const c = bias();
    const sum = g.add(product, g.fusedMatMul(chosen, g.sub(columns, fixed), { transB: true }));
    return c ? g.add(sum, c) : sum;
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
  keys: { P: "paca_w", indices: "paca_indices", norms: "paca_norms" },
  peft: { names: { alpha: "paca_alpha" }, only: { bias: ["none"] } },
});
