import { z } from "zod";
import { PeftError } from "../errors.ts";
import {
  blockDiagonal,
  identity,
  type Matrix,
  matrix,
  multiply,
  scale,
  scaleRows,
  subtract,
  transpose,
} from "../linalg/matrix.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrices } from "./dense.ts";
import { ones, zeros } from "./init.ts";
import { type AdapterTensor, defineMethod } from "./method.ts";
import { cayley, cayleyValue } from "./orthogonal.ts";
import { sizeError } from "./sizes.ts";

// 1. Config
export const boftConfig = z.strictObject({
  /** Size of the blocks; 0: see `boftBlockNum`. */
  boftBlockSize: z.int().min(0).max(4096).default(4),
  /** Number of blocks; exactly one of the two is given. */
  boftBlockNum: z.int().min(0).max(65_536).default(0),
  /** Butterfly factors m: with more of them every input reaches more outputs. */
  boftNButterflyFactor: z.int().min(1).max(16).default(1),
});
export type BoftConfig = z.output<typeof boftConfig>;

function blockSizeOf(inFeatures: number, outFeatures: number, config: BoftConfig): number {
  const { boftBlockSize, boftBlockNum, boftNButterflyFactor: m } = config;
  if ((boftBlockSize === 0) === (boftBlockNum === 0)) {
    throw new PeftError("CONFIG_INVALID", "BOFT needs exactly one of boftBlockSize and boftBlockNum.");
  }
  const size = boftBlockSize > 0 ? boftBlockSize : inFeatures / boftBlockNum;
  const needed = m === 1 ? size : size * 2 ** (m - 1);
  if (!Number.isInteger(size) || inFeatures % needed !== 0 || (m > 1 && size % 2 !== 0))
    throw sizeError(`Blocks of ${size} with ${m} butterfly factors`, inFeatures, outFeatures);
  return size;
}

/** Where the entries of factor i come from: inside groups of b·2^i the half blocks 0, 2, 4, ... come first, then 1, 3, 5, ... */
function permutation(size: number, b: number, factor: number, factors: number): number[] {
  const order = Array.from({ length: size }, (_, i) => i);
  if (factors === 1) return order;
  const [group, half] = [b * 2 ** factor, b / 2];
  const halves = group / half;
  const sorted = [...Array(halves).keys()].sort((p, q) => (p % 2) - (q % 2) || p - q);
  return order.map((i) => {
    const place = i % group;
    return i - place + (sorted[Math.floor(place / half)] as number) * half + (place % half);
  });
}

const permutationMatrix = (order: readonly number[]): Matrix => {
  const result = matrix(order.length, order.length);
  order.forEach((from, i) => {
    result.data[i * order.length + from] = 1;
  });
  return result;
};

/** The orthogonal matrix M [in, in] that x is multiplied by. */
function rotation(tensor: AdapterTensor, inFeatures: number): Matrix {
  const [m = 1, blocks = 1, b = 1] = tensor.dims;
  const all = toMatrices(tensor).map((r) => cayley(scale(subtract(r, transpose(r)), 0.5)));
  let product = identity(inFeatures);
  for (let i = 0; i < m; i++) {
    const p = permutationMatrix(permutation(inFeatures, b, i, m));
    const d = blockDiagonal(all.slice(i * blocks, (i + 1) * blocks));
    product = multiply(multiply(multiply(p, d), transpose(p)), product);
  }
  return product;
}

/**
 * BOFT: OFT whose rotation is a product of m block-diagonal matrices between butterfly permutations. Liu et al. 2023, arXiv
 * 2311.06243. S = (R - Rᵀ) / 2, C = (I - S)(I + S)^-1 for each block R [b, b] = 0; M = P_m D_m P_mᵀ ··· P_1 D_1 P_1ᵀ;
 * y = s · ((x·M)·Wᵀ) + c with s [out] = 1. Parameters: m·b·in + out. `peft` computes m = 1 where it cannot compile its CUDA kernel,
 * without saying so; here m is what the config says.
 */
export const boft = defineMethod<BoftConfig>({
  type: "BOFT",
  paper: "2311.06243",
  kinds: ["linear"],
  identityAtStart: "rounded",
  neutral: "empty",
  config: boftConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, config) {
    const b = blockSizeOf(inFeatures, outFeatures, config);
    return {
      R: { shape: [config.boftNButterflyFactor, inFeatures / b, b, b], init: zeros },
      s: { shape: [outFeatures, 1], init: ones, neutral: 1 },
    };
  },
  // 3. Forward: x·M = ((x·P_m)·D_m·P_mᵀ)···, columns exchanged by Gather.
  forward(g, { x, site, base, bias }, values, config) {
    const { inFeatures, outFeatures } = site;
    const b = blockSizeOf(inFeatures, outFeatures, config);
    const [m, blocks] = [config.boftNButterflyFactor, inFeatures / b];
    const r = g.reshape(roleOf(values, "R"), [m * blocks, b, b]);
    const c = cayleyValue(g, g.mul(g.sub(r, g.transpose(r, [0, 2, 1])), 0.5), b);
    const factors = g.split(
      g.reshape(c, [m, blocks, b, b]),
      Array.from({ length: m }, () => 1),
      0,
    );
    let rows = g.toMatrix(x);
    const exchange = (order: readonly number[]): void => {
      if (order.some((from, i) => from !== i)) rows = g.gather(rows, g.constant("int64", order), 1);
    };
    for (let i = m - 1; i >= 0; i--) {
      const order = permutation(inFeatures, b, i, m);
      const inverse = new Array<number>(inFeatures);
      order.forEach((from, to) => {
        inverse[from] = to;
      });
      const factor = factors[i];
      if (!factor) throw new PeftError("PARAMETER", `BOFT's R has no factor ${i}.`);
      exchange(inverse); // x·P
      const parts = g.transpose(g.reshape(rows, ["?rows", blocks, b]), [1, 0, 2]);
      const turned = g.matMul(parts, g.reshape(factor, [blocks, b, b]));
      rows = g.reshape(g.transpose(turned, [1, 0, 2]), ["?rows", inFeatures]);
      exchange(order); // ·Pᵀ
    }
    const y = base(g.reshapeLike(rows, x));
    const s = g.reshape(roleOf(values, "s"), [outFeatures]);
    const shift = bias();
    return shift ? g.add(g.mul(g.sub(y, shift), s), shift) : g.mul(y, s);
  },
  // 4. Delta: diag(s)·W·Mᵀ
  delta(tensors, _, site, frozen) {
    const w = frozenMatrix(site, frozen);
    const turned = multiply(w, transpose(rotation(roleOf(tensors, "R"), site.inFeatures)));
    return { weight: addToWeight(site, subtract(scaleRows(turned, roleOf(tensors, "s").data), w)) };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { R: "boft_R", s: "boft_s" },
  peft: { only: { bias: ["none"] } },
});
