import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { blockDiagonal, type Matrix, multiply, subtract, transpose } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { columnsOf, refusesAxes, refusesGroups, weightMatrix, withKernel } from "./convolution.ts";
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

/** What is rotated: the input, all that a kernel sees at once, or the rows of a table. */
const widthOf = (site: SiteShape): number => (site.kind === "embedding" ? site.outFeatures : columnsOf(site));

function blockSizeOf(site: SiteShape, { r, oftBlockSize }: OftConfig): number {
  const width = widthOf(site);
  return oftBlockSize > 0 ? nearestDivisor(width, oftBlockSize) : width / nearestDivisor(width, r);
}

const roleAt = ({ kind }: SiteShape): string => (kind === "embedding" ? "embeddingR" : "R");

/** The rotation [width, width] of rows. */
function rotation(tensor: AdapterTensor, site: SiteShape, config: OftConfig): Matrix {
  const size = blockSizeOf(site, config);
  const { rows, columns, data } = toMatrix(tensor);
  const blocks = Array.from({ length: widthOf(site) / size }, (_, i) => {
    const row = i % rows;
    const q = skewMatrix(size, data.subarray(row * columns, (row + 1) * columns));
    return config.useCayleyNeumann ? cayleyNeumann(q, config.numCayleyNeumannTerms) : cayley(q);
  });
  return blockDiagonal(blocks);
}

/** Rows [..., width] times blocks R_i [blocks or 1, size, size], or their transposes, in x's shape. */
function rotated(g: Builder, x: Value, blocks: Value, width: number, size: number): Value {
  const parts = g.transpose(g.reshape(g.toMatrix(x), ["?rows", width / size, size]), [1, 0, 2]);
  const turned = g.transpose(g.matMul(parts, blocks), [1, 0, 2]); // [rows, blocks, size]
  return g.reshapeLike(g.reshape(turned, ["?rows", width]), x);
}

/**
 * OFT: the input is rotated in blocks before the frozen layer, x' = x·blockdiag(R_i), so W' = W·Rᵀ. Qiu et al. 2023, arXiv 2306.07280.
 * R_i from a skew-symmetric Q_i (its upper triangle is trained, zero at the start): I + 2Q + 2Q² + 2Q³ + Q⁴ (5 terms, the default of
 * `peft`), or (I - Q)(I + Q)^-1, which turns the other way for the same Q. Parameters: in (b - 1) / 2 for blocks of size b.
 * At convolutions of two axes the rotation is one of all in * places numbers that a kernel sees at once, and the kernel is computed, W·Rᵀ: what
 * `peft` merges. Its forward without merging is the same for 1x1 kernels alone; for larger ones it adds rotated patches up where they
 * overlap, which changes the model before anything is trained. Rows of an embedding are rotated after they are looked up, W' = W·R.
 */
export const oft = defineMethod<OftConfig>({
  type: "OFT",
  paper: "2306.07280",
  kinds: ["linear", "conv", "embedding"],
  identityAtStart: true,
  neutral: "empty",
  config: oftConfig,
  defaultTargets: null,
  refuses: (site) => refusesAxes(site, [2]) ?? refusesGroups(site),
  // 2. Parameters
  parameters(site, config) {
    const size = blockSizeOf(site, config);
    const shape = [config.blockShare ? 1 : widthOf(site) / size, triangleSize(size)];
    return { [roleAt(site)]: { shape, init: zeros } };
  },
  // 3. Forward
  forward(g, at, values, config) {
    const { x, y, site, base } = at;
    const [width, size] = [widthOf(site), blockSizeOf(site, config)];
    const q = skewMatrices(g, roleOf(values, roleAt(site)), size); // [blocks, size, size]
    const r = config.useCayleyNeumann
      ? cayleyNeumannValue(g, q, size, config.numCayleyNeumannTerms)
      : cayleyValue(g, q, size);
    const turn = (rows: Value, blocks: Value): Value => rotated(g, rows, blocks, width, size);
    if (site.kind === "embedding") return turn(y, r);
    if (site.kind === "conv") return withKernel(g, at, turn(weightMatrix(g, at), g.transpose(r, [0, 2, 1])));
    return base(turn(x, r));
  },
  // 4. Delta, as a matrix [out, in]: that of an embedding is the transpose of its table.
  delta(tensors, config, site, frozen) {
    const w = frozenMatrix(site, frozen);
    const r = rotation(roleOf(tensors, roleAt(site)), site, config);
    const turned = site.kind === "embedding" ? multiply(transpose(r), w) : multiply(w, transpose(r));
    return { weight: addToWeight(site, subtract(turned, w)) };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { R: "oft_R.weight", embeddingR: "oft_embedding_R.weight" },
  /** Constrained OFT projects the trained blocks after every update, as peft does before every forward. */
  hooks({ sites, values }) {
    return {
      onStep() {
        for (const { site, config, names } of sites) {
          const data = values.get(names[roleAt(site)] ?? "");
          if (!config.coft || !data) continue;
          const width = triangleSize(blockSizeOf(site, config));
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
