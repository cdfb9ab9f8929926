import { z } from "zod";
import { add, type Matrix, matrix, multiply, scale } from "../linalg/matrix.ts";
import { addToWeight, roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";
import { sizeError } from "./sizes.ts";

// 1. Config
export const graloraConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(32),
  /** Rank of a plain LoRA beside the blocks. */
  hybridR: z.int().min(0).max(65_536).default(0),
  /** The update is multiplied by alpha / (r + hybridR). */
  alpha: z.number().default(64),
  dropout: z.number().min(0).lt(1).default(0),
  /** The weight is cut into k x k blocks. */
  graloraK: z.int().positive().max(4096).default(2),
});
export type GraloraConfig = z.output<typeof graloraConfig>;

const graloraScale = ({ r, hybridR, alpha }: GraloraConfig): number => alpha / (r + hybridR);

/**
 * GraLoRA: a LoRA of rank r / k in each of k x k blocks of the weight, so of rank k·r in all. Jung et al. 2025, arXiv 2505.20355.
 * With x in k parts x_n: z_n = x_n·A_n [r], in k chunks of r / k; output part j is sum over n of z_n[chunk j]·B_j[rows of chunk n].
 * A [k, in/k, r], B [k, r, out/k] = 0; scale alpha / (r + hybridR), also for the plain LoRA of rank hybridR beside it.
 * Parameters: (r + hybridR)(in + out). k = 1 is LoRA.
 */
export const gralora = defineMethod<GraloraConfig>({
  type: "GRALORA",
  paper: "2505.20355",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: graloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, { r, hybridR, graloraK: k }) {
    if (r % k !== 0 || inFeatures % k !== 0 || outFeatures % k !== 0)
      throw sizeError(`graloraK ${k}`, inFeatures, outFeatures);
    const start = kaimingUniform(Math.sqrt(5));
    return {
      // As in peft the bound is that of a tensor [r, in/k] a block.
      A: { shape: [k, inFeatures / k, r], init: (input) => start({ ...input, shape: [k * r, inFeatures / k] }) },
      B: { shape: [k, r, outFeatures / k], init: zeros },
      ...(hybridR === 0
        ? {}
        : {
            generalA: { shape: [hybridR, inFeatures], init: start },
            generalB: { shape: [outFeatures, hybridR], init: zeros },
          }),
    };
  },
  // 3. Forward
  forward(g, { x, y, site }, values, config) {
    const { r, hybridR, graloraK: k, dropout } = config;
    const dropped = g.dropout(x, dropout);
    const scaled = g.mul(roleOf(values, "A"), graloraScale(config));
    const parts = g.transpose(g.reshape(g.toMatrix(dropped), ["?rows", k, site.inFeatures / k]), [1, 0, 2]); // [k, rows, in/k]
    const z = g.reshape(g.matMul(parts, scaled), [k, "?rows", k, r / k]); // [n, rows, j, r/k]
    const exchanged = g.reshape(g.transpose(z, [2, 1, 0, 3]), [k, "?rows", r]); // [j, rows, (n, r/k)]
    const blocks = g.transpose(g.matMul(exchanged, roleOf(values, "B")), [1, 0, 2]); // [rows, j, out/k]
    const result = g.add(y, g.reshapeLike(g.reshape(blocks, ["?rows", site.outFeatures]), y));
    if (hybridR === 0) return result;
    const h = g.fusedMatMul(dropped, roleOf(values, "generalA"), { transB: true, alpha: graloraScale(config) });
    return g.add(result, g.fusedMatMul(h, roleOf(values, "generalB"), { transB: true }));
  },
  // 4. Delta: block (j, n) is (A_n[:, chunk j]·B_j[rows of chunk n])ᵀ.
  delta(tensors, config, site) {
    const { r, hybridR, graloraK: k } = config;
    const [a, b] = [roleOf(tensors, "A").data, roleOf(tensors, "B").data];
    const [height, width, chunk] = [site.outFeatures / k, site.inFeatures / k, r / k];
    const change = matrix(site.outFeatures, site.inFeatures);
    for (let j = 0; j < k; j++)
      for (let n = 0; n < k; n++)
        for (let o = 0; o < height; o++)
          for (let i = 0; i < width; i++) {
            let sum = 0;
            for (let q = 0; q < chunk; q++) {
              const left = a[(n * width + i) * r + j * chunk + q] as number;
              sum += left * (b[(j * r + n * chunk + q) * height + o] as number);
            }
            change.data[(j * height + o) * site.inFeatures + n * width + i] = sum;
          }
    const general = (): Matrix =>
      multiply(toMatrix(roleOf(tensors, "generalB")), toMatrix(roleOf(tensors, "generalA")));
    const total = hybridR > 0 ? add(change, general()) : change;
    return { weight: addToWeight(site, scale(total, graloraScale(config))) };
  },
  // 5. Keys
  keys: {
    A: "gralora_A",
    B: "gralora_B",
    generalA: "gralora_A_general.weight",
    generalB: "gralora_B_general.weight",
  },
  peft: { names: { dropout: "gralora_dropout" }, only: { bias: ["none"] } },
});
