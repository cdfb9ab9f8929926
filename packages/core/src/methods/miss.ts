import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { type Matrix, matrix } from "../linalg/matrix.ts";
import { addToWeight, frozenMatrix, roleOf } from "./dense.ts";
import { zeros } from "./init.ts";
import { type AdapterTensor, defineMethod } from "./method.ts";
import { sizeError } from "./sizes.ts";

// 1. Config
export const missConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(64),
  /** Width of the block that "mini" repeats along the output. */
  miniR: z.int().positive().max(65_536).default(1),
  dropout: z.number().min(0).lt(1).default(0),
  /** true: plain MiSS. "bat": blocks that multiply the weight (Bone). "mini": one narrow block, repeated. */
  initWeights: z.union([z.literal(true), z.enum(["bat", "mini"])]).default(true),
});
export type MissConfig = z.output<typeof missConfig>;

/** Plain and mini: dW[o, i] = D[i mod r, o mod width]. */
function repeated({ dims, data }: AdapterTensor, { inFeatures, outFeatures }: SiteShape): Matrix {
  const [r = 1, width = 1] = dims;
  const change = matrix(outFeatures, inFeatures);
  for (let o = 0; o < outFeatures; o++)
    for (let i = 0; i < inFeatures; i++)
      change.data[o * inFeatures + i] = data[(i % r) * width + (o % width)] as number;
  return change;
}

/** "bat": W in blocks W_oi [r, r], dW_oi = W_oi·B_o + B_o. */
function blockwise({ data }: AdapterTensor, w: Matrix, r: number): Matrix {
  const change = matrix(w.rows, w.columns);
  for (let o = 0; o < w.rows; o++)
    for (let i = 0; i < w.columns; i++) {
      const [block, column] = [Math.floor(o / r) * r * r, i % r];
      let sum = data[block + (o % r) * r + column] as number;
      for (let k = 0; k < r; k++)
        sum += (w.data[o * w.columns + i - column + k] as number) * (data[block + k * r + column] as number);
      change.data[o * w.columns + i] = sum;
    }
  return change;
}

/**
 * MiSS (Bone): y += (sum of x over its blocks of r)·D, that is dW[o, i] = D[i mod r, o]. Kang and Yin 2024, arXiv 2409.15371.
 * D [r, out] = 0, x padded with zeros to a multiple of r. "mini": D [r, miniR], repeated along the output. "bat": B [out/r, r, r] = 0,
 * dW_oi = W_oi·B_o + B_o for the r x r blocks of W. Parameters: r·out (mini: r·miniR).
 */
export const miss = defineMethod<MissConfig>({
  type: "MISS",
  paper: "2409.15371",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: missConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, { r, miniR, initWeights }) {
    const shape = initWeights === "bat" ? [outFeatures / r, r, r] : [r, initWeights === "mini" ? miniR : outFeatures];
    if (!shape.every(Number.isInteger) || r > inFeatures || (initWeights === "bat" && inFeatures % r !== 0))
      throw sizeError(`r ${r}`, inFeatures, outFeatures);
    if (initWeights === "mini" && outFeatures % miniR !== 0) throw sizeError(`miniR ${miniR}`, inFeatures, outFeatures);
    return { D: { shape, init: zeros } };
  },
  // 3. Forward
  forward(g, { x, y, site, weight }, values, { r, dropout, initWeights }) {
    const d = roleOf(values, "D");
    const { inFeatures, outFeatures } = site;
    if (initWeights === "bat") {
      const blocks = g.reshape(weight(), [outFeatures / r, r, inFeatures / r, r]);
      const byOutput = g.reshape(blocks, [outFeatures / r, inFeatures, r]); // rows (row of the block, input block)
      const product = g.reshape(g.matMul(byOutput, d), [outFeatures / r, r, inFeatures / r, r]);
      const change = g.add(product, g.reshape(d, [outFeatures / r, r, 1, r]));
      return g.add(y, g.fusedMatMul(x, g.reshape(change, [outFeatures, inFeatures]), { transB: true }));
    }
    const rows = g.toMatrix(g.dropout(x, dropout));
    const padding = (r - (inFeatures % r)) % r;
    const padded =
      padding === 0 ? rows : (g.op("Pad", [rows, g.ints([0, 0, 0, padding])], { mode: "constant" })[0] ?? rows);
    const sums = g.reduceSum(g.reshape(padded, ["?rows", (inFeatures + padding) / r, r]), [1], false); // [rows, r]
    const product = g.matMul(sums, d); // [rows, width]
    const times = initWeights === "mini" ? outFeatures / Number(d.shape[1]) : 1;
    const full =
      times === 1
        ? product
        : g.concat(
            Array.from({ length: times }, () => product),
            1,
          );
    return g.add(y, g.reshapeLike(full, y));
  },
  // 4. Delta
  delta(tensors, { r, initWeights }, site, frozen) {
    const d = roleOf(tensors, "D");
    const change = initWeights === "bat" ? blockwise(d, frozenMatrix(site, frozen), r) : repeated(d, site);
    return { weight: addToWeight(site, change) };
  },
  deltaNeedsWeight: ({ initWeights }) => initWeights === "bat",
  // 5. Keys
  keys: { D: "miss_block" },
  peft: { names: { dropout: "miss_dropout" }, only: { bias: ["none"] } },
});
