import { z } from "zod";
import { blockDiagonal, type Matrix, multiply, subtract, transpose } from "../linalg/matrix.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { zeros } from "./init.ts";
import { type AdapterTensor, defineMethod } from "./method.ts";
import {
  cayley,
  cayleyNeumann,
  cayleyNeumannValue,
  cayleyValue,
  skewMatrices,
  skewMatrix,
  triangleSize,
} from "./orthogonal.ts";

// 1. Config
export const oftConfig = z.strictObject({
  /** Number of blocks; 0: see `oftBlockSize`. */
  r: z.int().min(0).max(65_536).default(0),
  /** Size of the blocks; 0: see `r`. Exactly one of the two is given. A size that does not divide the input takes the nearest that does. */
  oftBlockSize: z.int().min(0).max(4096).default(32),
  /** Keeps every block within eps / sqrt(blocks) of zero (constrained OFT). */
  coft: z.boolean().default(false),
  eps: z.number().positive().default(6e-5),
  /** One block for the whole input. */
  blockShare: z.boolean().default(false),
  /** A few terms of a series in the place of an exact inverse. */
  useCayleyNeumann: z.boolean().default(true),
  numCayleyNeumannTerms: z.int().min(1).max(64).default(5),
});
export type OftConfig = z.output<typeof oftConfig>;

/** `size` moved to the nearest number that divides `width`, downwards first. */
function nearestDivisor(width: number, size: number): number {
  if (size >= width) return width;
  let [lower, higher] = [size, size];
  while (width % higher !== 0) higher++;
  while (width % lower !== 0) lower--;
  return size - lower <= higher - size ? lower : higher;
}

function blockSizeOf(inFeatures: number, { r, oftBlockSize }: OftConfig): number {
  return oftBlockSize > 0 ? nearestDivisor(inFeatures, oftBlockSize) : inFeatures / nearestDivisor(inFeatures, r);
}

/** The rotation [in, in] of x. */
function rotation(tensor: AdapterTensor, inFeatures: number, config: OftConfig): Matrix {
  const size = blockSizeOf(inFeatures, config);
  const { rows, columns, data } = toMatrix(tensor);
  const blocks = Array.from({ length: inFeatures / size }, (_, i) => {
    const row = i % rows;
    const q = skewMatrix(size, data.subarray(row * columns, (row + 1) * columns));
    return config.useCayleyNeumann ? cayleyNeumann(q, config.numCayleyNeumannTerms) : cayley(q);
  });
  return blockDiagonal(blocks);
}

/**
 * OFT: the input is rotated in blocks before the frozen layer, x' = x·blockdiag(R_i), so W' = W·Rᵀ. Qiu et al. 2023, arXiv 2306.07280.
 * R_i from a skew-symmetric Q_i (its upper triangle is trained, zero at the start): I + 2Q + 2Q² + 2Q³ + Q⁴ (5 terms, the default of
 * `peft`), or (I - Q)(I + Q)^-1, which turns the other way for the same Q. Parameters: in (b - 1) / 2 for blocks of size b.
 */
export const oft = defineMethod<OftConfig>({
  type: "OFT",
  paper: "2306.07280",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: oftConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures }, config) {
    const size = blockSizeOf(inFeatures, config);
    return { R: { shape: [config.blockShare ? 1 : inFeatures / size, triangleSize(size)], init: zeros } };
  },
  // 3. Forward
  forward(g, { x, site, base }, values, config) {
    const size = blockSizeOf(site.inFeatures, config);
    const q = skewMatrices(g, roleOf(values, "R"), size); // [blocks, size, size]
    const r = config.useCayleyNeumann
      ? cayleyNeumannValue(g, q, size, config.numCayleyNeumannTerms)
      : cayleyValue(g, q, size);
    const parts = g.transpose(g.reshape(g.toMatrix(x), ["?rows", site.inFeatures / size, size]), [1, 0, 2]);
    const rotated = g.transpose(g.matMul(parts, r), [1, 0, 2]); // [rows, blocks, size]
    return base(g.reshapeLike(g.reshape(rotated, ["?rows", site.inFeatures]), x));
  },
  // 4. Delta
  delta(tensors, config, site, frozen) {
    const w = frozenMatrix(site, frozen);
    const r = rotation(roleOf(tensors, "R"), site.inFeatures, config);
    return { weight: addToWeight(site, subtract(multiply(w, transpose(r)), w)) };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { R: "oft_R.weight" },
  /** Constrained OFT projects the trained blocks after every update, as peft does before every forward. */
  hooks({ sites, values }) {
    return {
      onStep() {
        for (const { site, config, names } of sites) {
          const data = values.get(names["R"] ?? "");
          if (!config.coft || !data) continue;
          const width = triangleSize(blockSizeOf(site.inFeatures, config));
          const limit = config.eps / Math.sqrt(data.length / width);
          for (let from = 0; from < data.length; from += width) {
            const block = data.subarray(from, from + width);
            const norm = Math.sqrt(2 * block.reduce((sum, v) => sum + v * v, 0));
            if (norm > limit) for (let i = 0; i < width; i++) block[i] = ((block[i] as number) * limit) / norm;
          }
        }
      },
    };
  },
  peft: { only: { bias: ["none"] } },
});
