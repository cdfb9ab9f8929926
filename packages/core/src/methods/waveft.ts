import { z } from "zod";
import type { SiteShape } from "../adapters/site.ts";
import type { Builder } from "../graph/builder.ts";
import { type Matrix, matrix, multiply, scale } from "../linalg/matrix.ts";
import { coefficientCount, synthesisMatrix } from "../linalg/wavelet.ts";
import { lowPass, type WaveletName, waveletNames } from "../linalg/wavelet-tables.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { addToWeight, roleOf } from "./dense.ts";
import { drawnPositions } from "./fourier-ft.ts";
import { normal, zeros } from "./init.ts";
import { defineMethod } from "./method.ts";

// 1. Config
export const waveFtConfig = z.strictObject({
  /** Trained coefficients per module. */
  nFrequency: z.int().positive().max(10_000_000).default(2592),
  scaling: z.number().default(25),
  waveletFamily: z.enum(waveletNames).default("db1"),
  /** Synthesise the change from its coefficients; false: the coefficients are entries of the change. */
  useIdwt: z.boolean().default(true),
  /** Seed of the positions, as `torch.manual_seed` takes it; files do not hold the positions. */
  randomLocSeed: z.int().min(0).default(777),
  nFrequencyPattern: z.record(z.string(), z.int().positive().max(10_000_000)).default({}),
  /** Start at zero, the identity, and not at N(0, 0.01²). */
  initWeights: z.boolean().default(true),
});
export type WaveFtConfig = z.output<typeof waveFtConfig>;

/** Size of the grid of coefficients, and where in it each coefficient stands, row after row. */
function placesOf({ inFeatures, outFeatures }: SiteShape, config: WaveFtConfig) {
  const { rows, columns } = drawnPositions(inFeatures, outFeatures, config);
  const { waveletFamily: name, useIdwt } = config;
  const sizeOf = (size: number): number => (useIdwt ? coefficientCount(size, name) : size);
  const [height, width] = [sizeOf(outFeatures), sizeOf(inFeatures)];
  if (!useIdwt) return { height, width, places: rows.map((row, k) => row * width + (columns[k] as number)) };
  // Positions are drawn over the weight, which lies in the middle of the grid. Its quarter at the top right holds what is high-pass over
  // rows, that at the bottom left what is high-pass over columns: in a product from both sides they change places.
  const [top, left] = [Math.floor((height - outFeatures) / 2), Math.floor((width - inFeatures) / 2)];
  const places = rows.map((row, k) => {
    const [p, q] = [row + top, (columns[k] as number) + left];
    const [isLower, isRight] = [p >= height / 2, q >= width / 2];
    const own = { row: isLower ? p - height / 2 : p, column: isRight ? q - width / 2 : q };
    return (own.row + (isRight ? height / 2 : 0)) * width + own.column + (isLower ? width / 2 : 0);
  });
  return { height, width, places };
}

/** Haar's wavelet on an even number of samples joins neighbours in pairs and no others. */
const joinsPairs = (size: number, { waveletFamily, useIdwt }: WaveFtConfig): boolean =>
  useIdwt && size % 2 === 0 && lowPass(waveletFamily).length === 2;

/** Samples that one small product transforms; it is as fast as a product with [2, 2] is not. */
const LARGEST_BLOCK = 32;

/** The synthesis of a run of samples, pairs of low and high pass beside each other: [block, block], block diagonal. */
function pairTable(g: Builder, size: number, name: WaveletName): { block: number; value: Value } {
  let block = 2;
  while (block < LARGEST_BLOCK && size % (2 * block) === 0) block *= 2;
  const key = `wavelet-pairs:${name}:${block}`;
  if (g.has(key)) return { block, value: g.value(key) };
  const { data } = synthesisMatrix(block, name);
  const values = Float32Array.from({ length: block * block }, (_, at) => {
    const [row, column] = [Math.floor(at / block), at % block];
    return data[row * block + (column % 2) * (block / 2) + Math.floor(column / 2)] as number;
  });
  return { block, value: g.initializer(key, tensorFrom("float32", [block, block], values)) };
}

/** Where a coefficient stands when those of a pair of samples are neighbours, not in two halves. */
const besidePair = (index: number, size: number): number => (index < size / 2 ? 2 * index : 2 * (index - size / 2) + 1);

/** A synthesis matrix as one initialiser for all modules of a width. */
function table(g: Builder, size: number, name: WaveletName): Value {
  const key = `wavelet:${name}:${size}`;
  if (g.has(key)) return g.value(key);
  const { rows, columns, data } = synthesisMatrix(size, name);
  return g.initializer(key, tensorFrom("float32", [rows, columns], data));
}

/**
 * WaveFT: dW = scaling · G_out·S·G_inᵀ, S zero but for n trained coefficients at random places, G the synthesis matrices of one wavelet
 * level (low-pass half, high-pass half). Bilican et al. 2025, arXiv 2505.12532. Wavelets with more than two taps need a grid of
 * coefficients that is larger than the weight by taps - 2; its edge stays zero, as in peft. Haar's (db1) is applied to
 * x and to the result, pair by pair; longer ones give a dense change first. Parameters: n per site. With `useIdwt` false the coefficients are
 * entries of the change.
 */
export const waveFt = defineMethod<WaveFtConfig>({
  type: "WAVEFT",
  paper: "2505.12532",
  kinds: ["linear"],
  identityAtStart: ({ initWeights }) => initWeights,
  neutral: "empty",
  config: waveFtConfig,
  defaultTargets: null,
  patterns: { nFrequency: "nFrequencyPattern" },
  refuses: ({ inFeatures, outFeatures }) =>
    inFeatures * outFeatures < 4_294_967_295 / 20 ? null : "it has more entries than positions can be drawn for",
  // 2. Parameters
  parameters: (_, { nFrequency, initWeights }) => ({
    c: { shape: [nFrequency], init: initWeights ? zeros : normal(0.01) },
  }),
  // 3. Forward
  forward(g, { x, y, site }, values, config) {
    const { height, width, places } = placesOf(site, config);
    const { scaling, waveletFamily: name, useIdwt } = config;
    const { inFeatures, outFeatures } = site;
    const grid = (at: readonly number[]): Value =>
      g.reshape(g.scatterElements(g.filled([height * width], 0), g.ints(at), roleOf(values, "c"), 0), [height, width]);
    if (joinsPairs(inFeatures, config) && joinsPairs(outFeatures, config)) {
      const paired = [...places].map(
        (place) => besidePair(Math.floor(place / width), height) * width + besidePair(place % width, width),
      );
      const [right, left] = [pairTable(g, inFeatures, name), pairTable(g, outFeatures, name)];
      const parts = (of: Value, { block }: { block: number }): Value => g.reshape(of, ["?parts", block]);
      const analysed = g.reshape(g.matMul(parts(x, right), right.value), ["?rows", inFeatures]);
      const mixed = g.fusedMatMul(analysed, grid(paired), { transB: true, alpha: scaling });
      return g.add(y, g.reshapeLike(g.fusedMatMul(parts(mixed, left), left.value, { transB: true }), y));
    }
    const coefficients = grid([...places]);
    const change = useIdwt
      ? g.fusedMatMul(g.matMul(table(g, outFeatures, name), coefficients), table(g, inFeatures, name), { transB: true })
      : coefficients; // [out, in]
    return g.add(y, g.fusedMatMul(x, change, { transB: true, alpha: scaling }));
  },
  // 4. Delta
  delta(tensors, config, site) {
    const { data: c } = roleOf(tensors, "c");
    const { height, width, places } = placesOf(site, config);
    const grid = matrix(height, width);
    places.forEach((place, k) => {
      grid.data[place] = c[k] as number;
    });
    const synthesis = (size: number): Matrix => synthesisMatrix(size, config.waveletFamily);
    const change = config.useIdwt
      ? multiply(multiply(synthesis(site.outFeatures), grid), synthesis(site.inFeatures), { transB: true })
      : grid;
    return { weight: addToWeight(site, scale(change, config.scaling)) };
  },
  // 5. Keys
  keys: { c: "waveft_spectrum" },
  peft: { only: { bias: ["none"], proportional_parameters: [false] } },
});
