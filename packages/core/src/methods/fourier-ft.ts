import { z } from "zod";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { matrix } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { torchRandom } from "../random/torch-random.ts";
import { addToWeight, roleOf } from "./dense.ts";
import { normal, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";
import { fold, mirrorAtZero, unfold } from "./mirrored.ts";

// 1. Config
export const fourierFtConfig = z.strictObject({
  /** Trained coefficients per module. */
  nFrequency: z.int().positive().max(10_000_000).default(1000),
  scaling: z.number().default(150),
  /** Seed of the positions, as `torch.manual_seed` takes it; files do not hold the positions. */
  randomLocSeed: z.int().min(0).default(777),
  nFrequencyPattern: z.record(z.string(), z.int().positive().max(10_000_000)).default({}),
  /** Start at zero, the identity, and not at N(0, 1). */
  initWeights: z.boolean().default(false),
});
export type FourierFtConfig = z.output<typeof fourierFtConfig>;

/** Rows and columns of the coefficients: the first n of a random order of all entries. */
export function drawnPositions(
  inFeatures: number,
  outFeatures: number,
  { nFrequency, randomLocSeed }: Pick<FourierFtConfig, "nFrequency" | "randomLocSeed">,
) {
  if (nFrequency > inFeatures * outFeatures) {
    throw new PeftError(
      "RANK_TOO_LARGE",
      `nFrequency ${nFrequency} exceeds the ${inFeatures * outFeatures} entries of a [${outFeatures}, ${inFeatures}] weight.`,
      { hint: "Lower nFrequency, or set nFrequencyPattern for this module." },
    );
  }
  const order = torchRandom(randomLocSeed)
    .randperm(inFeatures * outFeatures)
    .subarray(0, nFrequency);
  return { rows: order.map((p) => Math.floor(p / inFeatures)), columns: order.map((p) => p % inFeatures) };
}

/**
 * cos or sin of 2 pi i p_j / size for the first half of i, [half, positions.length], as one initialiser for all sites of a shape.
 * @param folded for the side whose entries i and size - i were added up: 0, and size / 2, are their own mirror images and count once.
 */
function table(
  g: Builder,
  name: string,
  f: "cos" | "sin",
  size: number,
  positions: Int32Array,
  folded: boolean,
): Value {
  if (g.has(name)) return g.value(name);
  const { half } = mirrorAtZero(size);
  const values = new Float32Array(half * positions.length);
  for (let i = 0; i < half; i++) {
    const factor = folded && (2 * i) % size === 0 ? 0.5 : 1;
    for (let j = 0; j < positions.length; j++)
      values[i * positions.length + j] =
        factor * Math[f]((2 * Math.PI * ((i * (positions[j] as number)) % size)) / size);
  }
  return g.initializer(name, tensorFrom("float32", [half, positions.length], values));
}

/**
 * FourierFT: dW = scaling · Re ifft2(S), S zero but for n trained coefficients c_j at random places (u_j, v_j). Gao et al. 2024,
 * arXiv 2405.03003. dW[p, q] = scaling / (out·in) · sum_j c_j cos 2 pi (p u_j / out + q v_j / in), the difference of a
 * product of cosines and one of sines. The former is even in p and in q, the latter odd: with x folded in the middle a quarter of each is
 * enough. Few coefficients are applied to x, many make a dense quarter first, whichever is less work for a row. Parameters: n per site.
 * Not the identity at the start, unless `initWeights` is true.
 */
export const fourierFt = defineMethod<FourierFtConfig>({
  type: "FOURIERFT",
  paper: "2405.03003",
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights,
  neutral: "empty",
  config: fourierFtConfig,
  defaultTargets: null,
  patterns: { nFrequency: "nFrequencyPattern" },
  refuses: ({ inFeatures, outFeatures }) =>
    inFeatures * outFeatures < 4_294_967_295 / 20 ? null : "it has more entries than positions can be drawn for",
  // 2. Parameters
  parameters: (_, { nFrequency, initWeights }) => ({
    c: { shape: [nFrequency], init: initWeights ? zeros : normal(1) },
  }),
  // 3. Forward: cos(a + b) = cos a cos b - sin a sin b.
  forward(g, { x, y, site }, values, config) {
    const { inFeatures, outFeatures } = site;
    const { nFrequency: n, scaling, randomLocSeed } = config;
    const { rows, columns } = drawnPositions(inFeatures, outFeatures, config);
    const key = `fourierft:${outFeatures}x${inFeatures}:${n}:${randomLocSeed}`;
    const c = g.mul(roleOf(values, "c"), scaling / (outFeatures * inFeatures));
    const [rowMirror, columnMirror] = [mirrorAtZero(outFeatures), mirrorAtZero(inFeatures)];
    const [height, width] = [rowMirror.half, columnMirror.half];
    const part = (f: "cos" | "sin", of: Value): Value => {
      const left = table(g, `${key}:u:${f}`, f, outFeatures, rows, false);
      const right = table(g, `${key}:v:${f}`, f, inFeatures, columns, true);
      if (n * (height + width) < height * width)
        return g.fusedMatMul(g.mul(g.matMul(of, right), c), left, { transB: true });
      const quarter = g.fusedMatMul(g.mul(left, c), right, { transB: true }); // [out / 2 + 1, in / 2 + 1]
      return g.fusedMatMul(of, quarter, { transB: true });
    };
    const { even, odd } = fold(g, x, columnMirror);
    return g.add(y, unfold(g, part("cos", even), g.neg(part("sin", odd)), rowMirror));
  },
  // 4. Delta
  delta(tensors, config, site) {
    const { inFeatures, outFeatures } = site;
    const { data: c } = roleOf(tensors, "c");
    const { rows, columns } = drawnPositions(inFeatures, outFeatures, config);
    const change = matrix(outFeatures, inFeatures);
    const factor = config.scaling / (outFeatures * inFeatures);
    for (let j = 0; j < c.length; j++) {
      const [u, v] = [rows[j] as number, columns[j] as number];
      for (let p = 0; p < outFeatures; p++)
        for (let q = 0; q < inFeatures; q++) {
          const turns = ((p * u) % outFeatures) / outFeatures + ((q * v) % inFeatures) / inFeatures;
          const at = p * inFeatures + q;
          change.data[at] = (change.data[at] as number) + factor * (c[j] as number) * Math.cos(2 * Math.PI * turns);
        }
    }
    return { weight: addToWeight(site, change) };
  },
  // 5. Keys
  keys: { c: "fourierft_spectrum" },
  peft: { only: { bias: ["none"] } },
});
