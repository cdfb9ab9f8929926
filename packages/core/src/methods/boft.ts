import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
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
import type { Value } from "../onnx/ir.ts";
import { columnsOf, perChannel, refusesAxes, refusesGroups, weightMatrix, withKernel } from "./convolution.ts";
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

function blockSizeOf(site: SiteShape, config: BoftConfig): number {
  const width = columnsOf(site);
  const { boftBlockSize, boftBlockNum, boftNButterflyFactor: m } = config;
  if ((boftBlockSize === 0) === (boftBlockNum === 0)) {
    throw new PeftError("CONFIG_INVALID", "BOFT needs exactly one of boftBlockSize and boftBlockNum.");
  }
  const size = boftBlockSize > 0 ? boftBlockSize : width / boftBlockNum;
  const needed = m === 1 ? size : size * 2 ** (m - 1);
  if (!Number.isInteger(size) || width % needed !== 0 || (m > 1 && size % 2 !== 0))
    throw sizeError(`Blocks of ${size} with ${m} butterfly factors`, width, site.outFeatures);
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

/** The orthogonal matrix M [width, width] that x is multiplied by. */
function rotation(tensor: AdapterTensor, width: number): Matrix {
  const [m = 1, blocks = 1, b = 1] = tensor.dims;
  const all = toMatrices(tensor).map((r) => cayley(scale(subtract(r, transpose(r)), 0.5)));
  let product = identity(width);
  for (let i = 0; i < m; i++) {
    const p = permutationMatrix(permutation(width, b, i, m));
    const d = blockDiagonal(all.slice(i * blocks, (i + 1) * blocks));
    product = multiply(multiply(multiply(p, d), transpose(p)), product);
  }
  return product;
}

/** Rows [rows, width] times M, or Mᵀ: columns are exchanged by Gather, blocks [m, width / b, b, b] multiplied one after the other. */
function rotated(g: Builder, rows: Value, blocks: Value, width: number, transposed: boolean): Value {
  const [m, count, b] = [blocks.shape[0], blocks.shape[1], blocks.shape[2]].map(Number) as [number, number, number];
  const ones = Array.from({ length: m }, () => 1);
  const factors = g.split(transposed ? g.transpose(blocks, [0, 1, 3, 2]) : blocks, ones, 0);
  const steps = factors.map((factor, i) => ({ factor: g.reshape(factor, [count, b, b]), i }));
  let result = rows;
  const exchange = (order: readonly number[]): void => {
    if (order.some((from, i) => from !== i)) result = g.gather(result, g.constant("int64", order), 1);
  };
  for (const { factor, i } of transposed ? steps : steps.reverse()) {
    const order = permutation(width, b, i, m);
    const inverse = new Array<number>(width);
    order.forEach((from, to) => {
      inverse[from] = to;
    });
    exchange(inverse); // ·P
    const parts = g.transpose(g.reshape(result, ["?rows", count, b]), [1, 0, 2]);
    result = g.reshape(g.transpose(g.matMul(parts, factor), [1, 0, 2]), ["?rows", width]);
    exchange(order); // ·Pᵀ
  }
  return result;
}

/**
 * BOFT: OFT whose rotation is a product of m block-diagonal matrices between butterfly permutations. Liu et al. 2023, arXiv
 * 2311.06243. S = (R - Rᵀ) / 2, C = (I - S)(I + S)^-1 for each block R [b, b] = 0; M = P_m D_m P_mᵀ ··· P_1 D_1 P_1ᵀ;
 * y = s · ((x·M)·Wᵀ) + c with s [out] = 1. Parameters: m·b·in + out. `peft` computes m = 1 where it cannot compile its CUDA kernel,
 * without saying so; here m is what the config says.
 * At convolutions of two axes the rotation is one of all in * places numbers that a kernel sees at once, and the kernel is computed,
 * diag(s)·W·Mᵀ; s is [1, out]. `peft` convolves there with one stride and padding for both axes and without dilation.
 */
export const boft = defineMethod<BoftConfig>({
  type: "BOFT",
  paper: "2311.06243",
  kinds: ["linear", "conv"],
  identityAtStart: "rounded",
  neutral: "empty",
  config: boftConfig,
  defaultTargets: null,
  refuses: (site) => refusesAxes(site, [2]) ?? refusesGroups(site),
  // 2. Parameters
  parameters(site, config) {
    const { kind, outFeatures } = site;
    const b = blockSizeOf(site, config);
    return {
      R: { shape: [config.boftNButterflyFactor, columnsOf(site) / b, b, b], init: zeros },
      s: { shape: kind === "conv" ? [1, outFeatures] : [outFeatures, 1], init: ones, neutral: 1 },
    };
  },
  // 3. Forward
  forward(g, at, values, config) {
    const { x, site, base, bias } = at;
    const [width, b, m] = [columnsOf(site), blockSizeOf(site, config), config.boftNButterflyFactor];
    const r = g.reshape(roleOf(values, "R"), [(m * width) / b, b, b]);
    const c = cayleyValue(g, g.mul(g.sub(r, g.transpose(r, [0, 2, 1])), 0.5), b);
    const blocks = g.reshape(c, [m, width / b, b, b]);
    const s = roleOf(values, "s");
    if (site.kind === "conv") {
      const turned = rotated(g, weightMatrix(g, at), blocks, width, true);
      return withKernel(g, at, g.mul(turned, g.reshape(s, [site.outFeatures, 1])));
    }
    const y = base(g.reshapeLike(rotated(g, g.toMatrix(x), blocks, width, false), x));
    const [factors, shift] = [perChannel(g, s, site.outFeatures, site), bias()];
    return shift ? g.add(g.mul(g.sub(y, shift), factors), shift) : g.mul(y, factors);
  },
  // 4. Delta: diag(s)·W·Mᵀ
  delta(tensors, _, site, frozen) {
    const w = frozenMatrix(site, frozen);
    const turned = multiply(w, transpose(rotation(roleOf(tensors, "R"), columnsOf(site))));
    return { weight: addToWeight(site, subtract(scaleRows(turned, roleOf(tensors, "s").data), w)) };
  },
  deltaNeedsWeight: true,
  // 5. Keys
  keys: { R: "boft_R", s: "boft_s" },
  peft: { only: { bias: ["none"] } },
});
