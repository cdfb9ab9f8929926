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

/** cos or sin of 2 pi i p_j / size, [size, positions.length], as one initialiser for all sites of a shape. */
function table(g: Builder, name: string, f: (x: number) => number, size: number, positions: Int32Array): Value {
  if (g.has(name)) return g.value(name);
  const values = new Float32Array(size * positions.length);
  for (let i = 0; i < size; i++)
    for (let j = 0; j < positions.length; j++)
      values[i * positions.length + j] = f((2 * Math.PI * ((i * (positions[j] as number)) % size)) / size);
  return g.initializer(name, tensorFrom("float32", [size, positions.length], values));
}

/**
 * FourierFT: dW = scaling · Re ifft2(S), S zero but for n trained coefficients c_j at random places (u_j, v_j). Gao et al. 2024,
 * arXiv 2405.03003. dW[p, q] = scaling / (out·in) · sum_j c_j cos 2 pi (p u_j / out + q v_j / in), computed as two products with
 * tables of cosines and sines, one pair per shape of module. Parameters: n per site. Not the identity at the start, unless
 * `initWeights` is true.
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
    const { rows, columns } = drawnPositions(inFeatures, outFeatures, config);
    const key = `fourierft:${outFeatures}x${inFeatures}:${config.nFrequency}:${config.randomLocSeed}`;
    const part = (f: "cos" | "sin"): Value =>
      g.fusedMatMul(
        g.mul(table(g, `${key}:u:${f}`, Math[f], outFeatures, rows), roleOf(values, "c")),
        table(g, `${key}:v:${f}`, Math[f], inFeatures, columns),
        { transB: true, alpha: config.scaling / (outFeatures * inFeatures) },
      ); // [out, in]
    return g.add(y, g.fusedMatMul(x, g.sub(part("cos"), part("sin")), { transB: true }));
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
