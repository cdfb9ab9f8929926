import { config, mixed, type TriedConfig } from "./tried-config.ts";

/** Of methods that change weights in other ways. */
export const weightConfigs: readonly TriedConfig[] = [
  {
    type: "IA3",
    config: config({ targetModules: ["key", "value", "output.dense"], feedforwardModules: ["output.dense"] }),
  },
  { type: "OFT", config: config({ oftBlockSize: 4, targetModules: "all-linear" }) },
  {
    type: "OFT",
    variant: "exact, by number of blocks",
    config: config({ r: 2, oftBlockSize: 0, useCayleyNeumann: false, ...mixed }),
  },
  {
    type: "OFT",
    variant: "shared block, three terms",
    config: config({ oftBlockSize: 2, blockShare: true, numCayleyNeumannTerms: 3, ...mixed }),
    // One angle for a whole module is too little there.
    elsewhere: { convolution: config({ oftBlockSize: 8 }), embedding: config({ oftBlockSize: 8 }) },
  },
  { type: "BOFT", config: config({ boftBlockSize: 4, targetModules: "all-linear" }) },
  { type: "BOFT", variant: "two factors", config: config({ boftBlockSize: 2, boftNButterflyFactor: 2, ...mixed }) },
  { type: "PSOFT", config: config({ r: 4, alpha: 6, dropout: 0.1, targetModules: "all-linear" }) },
  {
    type: "PSOFT",
    variant: "series, roots of singular values",
    config: config({
      ...{ r: 3, alpha: 2, useCayleyNeumann: true, cayleyNeumannEps: 0.5, psoftMagA: false },
      ...{ abSvdInit: "pissa_init", ...mixed },
    }),
  },
  {
    type: "PSOFT",
    variant: "any matrix, drawn",
    config: config({ r: 4, psoftOrth: false, initWeights: false, ...mixed }),
  },
  { type: "HRA", config: config({ r: 4, ...mixed }) },
  { type: "HRA", variant: "orthogonal directions", config: config({ r: 3, applyGS: true, ...mixed }) },
  { type: "ROAD", config: config({ groupSize: 4, targetModules: "all-linear" }) },
  { type: "ROAD", variant: "road_2", config: config({ variant: "road_2", groupSize: 2, ...mixed }) },
  { type: "ROAD", variant: "road_4", config: config({ variant: "road_4", groupSize: 4, ...mixed }) },
  { type: "FOURIERFT", config: config({ nFrequency: 10, scaling: 8, ...mixed }) },
  {
    type: "FOURIERFT",
    variant: "zero start",
    config: config({ nFrequency: 10, scaling: 30, initWeights: true, ...mixed }),
  },
  { type: "WAVEFT", config: config({ nFrequency: 40, scaling: 3, targetModules: "all-linear" }), noise: 0.5 },
  {
    type: "WAVEFT",
    variant: "longer filter, random start",
    config: config({ nFrequency: 40, scaling: 3, waveletFamily: "sym3", initWeights: false, ...mixed }),
    noise: 0.5,
  },
  { type: "WAVEFT", variant: "entries", config: config({ nFrequency: 12, scaling: 1, useIdwt: false, ...mixed }) },
  { type: "C3A", config: config({ blockSize: 4, ...mixed }), noise: 1 },
  { type: "C3A", variant: "zero start", config: config({ blockSize: 2, initWeights: true, ...mixed }), noise: 1 },
  { type: "SHIRA", config: config({ r: 1, randomSeed: 3, targetModules: "all-linear" }) },
  { type: "BEFT", config: config({ targetModules: ["value", "query"] }) },
  { type: "PACA", config: config({ r: 3, alpha: 5, targetModules: "all-linear" }) },
  { type: "PACA", variant: "largest columns", config: config({ r: 2, selection: "weightNorm", ...mixed }) },
  { type: "PACA", variant: "split", config: config({ r: 2, alpha: 4, form: "split", selection: [5, 1], ...mixed }) },
  { type: "PACA", variant: "in place", config: config({ r: 2, alpha: 4, form: "inPlace", ...mixed }) },
  { type: "TRAINABLE_TOKENS", config: config({ tokenIndices: [2, 3, 7], targetModules: ["word_embeddings"] }) },
  { type: "SVF", config: config({ targetModules: "all-linear" }) },
  { type: "SVF", variant: "decay towards the base", config: config({ decayTowards: "base", ...mixed }) },
  { type: "SVF", variant: "published form", config: config({ parametrization: "absolute", ...mixed }) },
  { type: "FROD", config: config({ sparseRate: 0.1, dropout: 0.1, targetModules: "all-linear" }), noise: 0.15 },
  {
    type: "FROD",
    variant: "moved start, other places",
    config: config({
      ...{ sparseRate: 0.05, regularizationAlpha: 0.1, projectionPrngKey: 4, initWeights: false },
      targetModules: ["query", "value", "up"],
    }),
    noise: 0.15,
  },
  { type: "LOLDU", config: config({ r: 4, alpha: 6, targetModules: "all-linear" }) },
  { type: "LOLDU", variant: "drawn pivots", config: config({ r: 3, initMethod: "normal", ...mixed }) },
  { type: "LOLDU", variant: "pivots of one", config: config({ r: 3, initMethod: "ones", ...mixed }) },
  { type: "LOCA", config: config({ nFrequency: 6, scaling: 4, targetModules: "all-linear" }) },
  {
    type: "LOCA",
    variant: "fixed places",
    config: config({ nFrequency: 6, scaling: 3, learnLocations: false, initWeights: "normal", ...mixed }),
  },
  { type: "QHFT", config: config({ r: 1, scaling: 20, targetModules: "all-linear" }) },
  {
    type: "QHFT",
    variant: "from the error of a quantised base",
    config: config({ r: 2, scaling: 20, initWeights: "quantization", ...mixed }),
  },
  { type: "BITFIT", config: {} },
  { type: "LN_TUNING", config: config({ modulesToSave: ["classifier"] }) },
  {
    type: "FULL",
    config: config({
      targetModules: ["query", "dense", "LayerNorm", "word_embeddings"],
      modulesToSave: ["classifier"],
    }),
  },
];
