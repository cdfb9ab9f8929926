import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { matrix, multiply, scale, transpose } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { torchRandom } from "../random/torch-random.ts";
import { addToWeight, roleOf } from "./dense.ts";
import { constant, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";
import { largestSizes } from "./vera.ts";

// 1. Config
export const randloraConfig = z.strictObject({
  /** Rank of one random base. A smaller one means more bases and more parameters. */
  r: z.int().positive().max(65_536).default(32),
  alpha: z.number().default(640),
  dropout: z.number().min(0).lt(1).default(0),
  /** "peft": alpha / r. "official": alpha / r / sqrt(bases). */
  scaling: z.enum(["peft", "official"]).default("peft"),
  /** Entries -1, 0 and 1, two thirds of them 0. */
  sparse: z.boolean().default(false),
  /** The same with one in sqrt(width) not 0. */
  verySparse: z.boolean().default(false),
  projectionPrngKey: z.int().min(0).default(0),
  /** peft draws the bases in half precision, which no seed reproduces elsewhere: they are always in the file. */
  saveProjection: z.literal(true).default(true),
});
export type RandloraConfig = z.output<typeof randloraConfig>;

/** Smaller and larger width of a module, and the number of bases that reach its full rank. */
function sizesOf({ inFeatures, outFeatures }: SiteShape, r: number) {
  const [small, large] = [Math.min(inFeatures, outFeatures), Math.max(inFeatures, outFeatures)];
  return { small, large, bases: Math.ceil(small / r) };
}

const scaleOf = ({ r, alpha, scaling }: RandloraConfig, bases: number): number =>
  alpha / r / (scaling === "official" ? Math.sqrt(bases) : 1);

/** Sizes of the shared bases: A [r, 1, small], B [large, bases, r] over the largest module of each kind. */
function sharedSizes(sites: readonly SiteShape[], r: number) {
  const [widest, tallest] = largestSizes(sites);
  const small = Math.min(widest, tallest);
  return { small, large: Math.max(widest, tallest), bases: Math.ceil(small / r) };
}

/** The leading part of a shared base; itself where the module is the largest, which saves a copy. */
function leading(g: Builder, base: Value, sizes: readonly number[]): Value {
  const axes = sizes.flatMap((size, axis) => (base.shape[axis] === size ? [] : [axis]));
  if (axes.length === 0) return base;
  return g.slice(
    base,
    axes.map(() => 0),
    axes.map((axis) => sizes[axis] as number),
    axes,
  );
}

function standardised(values: Float32Array): Float32Array {
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  const variance = values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1);
  return values.map((v) => v / Math.sqrt(variance));
}

/** Draws A and then B from one generator, each divided by its standard deviation. */
function drawBases(sites: readonly SiteShape[], config: RandloraConfig): [Float32Array, Float32Array] {
  const { small, large, bases } = sharedSizes(sites, config.r);
  const random = torchRandom(config.projectionPrngKey);
  const q = config.verySparse ? Math.sqrt(small) : 3;
  const draw = (size: number): Float32Array =>
    config.sparse || config.verySparse
      ? random.uniform(size).map((u) => (u < 1 / (2 * q) ? -1 : u > 1 - 1 / (2 * q) ? 1 : 0))
      : random.uniform(size, -1, 1);
  return [standardised(draw(config.r * small)), standardised(draw(large * bases * config.r))];
}

/**
 * RandLoRA: a full-rank update from frozen random bases that all modules share; only two diagonals per base are trained. Albert et al.
 * 2025, arXiv 2502.00987. With d = min(in, out), D = max(in, out), n = ceil(d / r): T[(k, j), :] = lambda[k, j] A[k, :] gamma[j, :] as
 * [r n, d], B as [D, (j, k)], dW = s B·T, transposed where in > out. Row (k, j) of T meets column (j, k) of B as in both published codes: the
 * pairing is a relabelling of random numbers, and files depend on it. lambda [r, n] = 0, gamma [n, d] = 1 / max(n, d).
 * Parameters: n (r + d) per site.
 */
export const randlora = defineMethod<RandloraConfig>({
  type: "RANDLORA",
  paper: "2502.00987",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: randloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters(site, { r }) {
    const { small, bases } = sizesOf(site, r);
    return {
      lambda: { shape: [r, bases], init: zeros },
      gamma: { shape: [bases, small], init: constant(1 / Math.max(bases, small)) },
    };
  },
  shared(sites, config) {
    const { small, large, bases } = sharedSizes(sites, config.r);
    return {
      A: { shape: [config.r, 1, small], init: () => drawBases(sites, config)[0], trainable: false },
      B: { shape: [large, bases, config.r], init: () => drawBases(sites, config)[1], trainable: false },
    };
  },
  // 3. Forward: lambda multiplies the products, so that one matrix as large as the weight is made and kept, A·diag(gamma), and none per base.
  forward(g, { x, y, site }, values, config) {
    const { r, dropout } = config;
    const { small, large, bases } = sizesOf(site, r);
    const a = leading(g, roleOf(values, "A"), [r, 1, small]);
    const b = g.reshape(leading(g, roleOf(values, "B"), [large, bases, r]), [large, bases * r]);
    const lambda = g.mul(g.reshape(roleOf(values, "lambda"), [r * bases]), scaleOf(config, bases));
    const u = g.reshape(g.mul(a, roleOf(values, "gamma")), [r * bases, small]);
    const dropped = g.dropout(x, dropout);
    const branch =
      site.inFeatures <= site.outFeatures
        ? g.fusedMatMul(g.mul(g.fusedMatMul(dropped, u, { transB: true }), lambda), b, { transB: true })
        : g.matMul(g.mul(g.matMul(dropped, b), lambda), u);
    return g.add(y, branch);
  },
  // 4. Delta
  delta(tensors, config, site) {
    const { r } = config;
    const { small, large, bases } = sizesOf(site, r);
    const [a, b] = [roleOf(tensors, "A"), roleOf(tensors, "B")];
    const [widthA = small, basesB = bases] = [a.dims[2], b.dims[1]];
    const [lambda, gamma] = [roleOf(tensors, "lambda").data, roleOf(tensors, "gamma").data];
    const t = matrix(r * bases, small);
    for (let k = 0; k < r; k++)
      for (let j = 0; j < bases; j++)
        for (let i = 0; i < small; i++)
          t.data[(k * bases + j) * small + i] =
            (lambda[k * bases + j] as number) * (a.data[k * widthA + i] as number) * (gamma[j * small + i] as number);
    const left = matrix(large, bases * r);
    for (let o = 0; o < large; o++)
      for (let c = 0; c < bases * r; c++) left.data[o * bases * r + c] = b.data[o * basesB * r + c] as number;
    const product = scale(multiply(left, t), scaleOf(config, bases));
    return { weight: addToWeight(site, site.inFeatures <= site.outFeatures ? product : transpose(product)) };
  },
  // 5. Keys
  keys: { lambda: "randlora_lambda", gamma: "randlora_gamma" },
  sharedKeys: { A: "base_model.randlora_A", B: "base_model.randlora_B" },
  peft: { names: { alpha: "randlora_alpha", dropout: "randlora_dropout" }, only: { bias: ["none"] } },
});
