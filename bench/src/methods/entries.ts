import { mam, unipelt } from "@onnx-peft/core";
import { type Entry, QUERY_VALUE } from "./entry.ts";

/** Trained values of LoRA r 8 at query and value: what the other entries come near to, where their method can. */
export const BUDGET = 32_768;

const lora = { r: 8, alpha: 16 };

const lowRank: readonly Entry[] = [
  { name: "LoRA", type: "LORA", config: lora },
  { name: "rsLoRA", type: "LORA", config: { ...lora, useRslora: true } },
  { name: "DoRA", type: "LORA", config: { ...lora, useDora: true } },
  { name: "PiSSA", type: "LORA", config: { ...lora, alpha: 8, initLoraWeights: "pissa" } },
  { name: "OLoRA", type: "LORA", config: { ...lora, alpha: 8, initLoraWeights: "olora" } },
  { name: "LoRA, orthogonal start", type: "LORA", config: { ...lora, initLoraWeights: "orthogonal" } },
  { name: "EVA", type: "LORA", config: { ...lora, initLoraWeights: "eva" } },
  { name: "LoRA-GA", type: "LORA", config: { ...lora, initLoraWeights: "lora_ga" } },
  { name: "CorDA", type: "LORA", config: { ...lora, alpha: 8, initLoraWeights: "corda" } },
  { name: "LoRA-FA", type: "LORA", config: { r: 16, alpha: 32, freezeA: true } },
  { name: "LoRA-FA, projected", type: "LORA", config: { r: 16, alpha: 32, freezeA: "projected" } },
  { name: "LoRA+", type: "LORA", config: lora, loraPlusRatio: 16 },
  {
    name: "AdaLoRA",
    type: "ADALORA",
    config: { initR: 12, targetR: 8, alpha: 16, tinit: 20, tfinal: 40, deltaT: 5 },
    usual: {},
  },
  {
    name: "TriAdaptLoRA",
    type: "TRIADAPTLORA",
    config: { referenceRank: 8, initRank: 2, alpha: 16, warmup: 10, interval: 10, increment: 2, orthReg: 0.1 },
  },
  { name: "DyLoRA", type: "DYLORA", config: { rMax: 8, alpha: 16 } },
  { name: "Hydra", type: "HYDRA", config: { parallelRank: 4, sequentialRank: 4, bias: false }, usual: {} },
  { name: "DeLoRA", type: "DELORA", config: { r: 8, deloraLambda: 15 }, usual: {} },
  { name: "GraLoRA", type: "GRALORA", config: { r: 8, alpha: 16, graloraK: 2 }, usual: {} },
  { name: "MiSS", type: "MISS", config: { r: 16 }, usual: {} },
  { name: "Bone (bat)", type: "MISS", config: { r: 16, initWeights: "bat" }, usual: { initWeights: "bat" } },
  {
    name: "MiSS mini",
    type: "MISS",
    config: { r: 64, miniR: 8, initWeights: "mini" },
    usual: { r: 64, miniR: 8, initWeights: "mini" },
    budget: "one small matrix a module",
  },
];

const shared: readonly Entry[] = [
  { name: "VeRA", type: "VERA", config: { r: 256 }, budget: "vectors only" },
  { name: "PVeRA", type: "PVERA", config: { r: 256 }, budget: "vectors only" },
  { name: "VB-LoRA", type: "VBLORA", config: { r: 8, numVectors: 64, vectorLength: 32, topk: 2 }, usual: {} },
  { name: "Uni-LoRA", type: "UNILORA", config: { r: 8, thetaDLength: BUDGET } },
  { name: "Lily", type: "LILY", config: { r: 16, strideA: 2, numB: 2 }, usual: {} },
  {
    name: "MoS",
    type: "MOS",
    config: { r: 16, equivalentRank: 8, privateRank: 2, shardsPerVector: 4 },
    usual: { r: 8, equivalentRank: 4, privateRank: 1 },
  },
  { name: "RandLoRA", type: "RANDLORA", config: { r: 16, alpha: 320 }, usual: {} },
  { name: "TinyLoRA", type: "TINYLORA", config: { r: 8, u: 64 }, usual: {}, budget: "64 values a module" },
];

const products: readonly Entry[] = [
  { name: "LoHa", type: "LOHA", config: { r: 4, alpha: 8 }, usual: {} },
  { name: "LoKr", type: "LOKR", config: { r: 64, alpha: 64, decomposeFactor: 4 }, usual: {} },
  { name: "DiffuseKronA", type: "KRONA", config: { a1: 64, a2: 64 }, usual: {} },
  { name: "TLoRA (tensor ring)", type: "TLORA_TENSOR", config: { transformRank: 4, residualRank: 8 }, usual: {} },
  { name: "HiRA", type: "HIRA", config: { r: 8 }, usual: {} },
  { name: "GLoRA", type: "GLORA", config: { r: 3 }, usual: {} },
];

const rotations: readonly Entry[] = [
  { name: "OFT", type: "OFT", config: { oftBlockSize: 32 }, usual: {} },
  { name: "BOFT", type: "BOFT", config: { boftBlockSize: 8, boftNButterflyFactor: 2 }, usual: {} },
  { name: "PSOFT", type: "PSOFT", config: { r: 64, alpha: 64 }, usual: {} },
  { name: "HRA", type: "HRA", config: { r: 16 }, usual: {} },
  { name: "RoAd 1", type: "ROAD", config: { variant: "road_1" }, budget: "vectors only" },
  { name: "RoAd 4", type: "ROAD", config: { variant: "road_4" }, budget: "vectors only" },
];

const transforms: readonly Entry[] = [
  { name: "FourierFT", type: "FOURIERFT", config: { nFrequency: 4096 }, usual: {} },
  { name: "WaveFT", type: "WAVEFT", config: { nFrequency: 4096 }, usual: {} },
  { name: "LoCA", type: "LOCA", config: { nFrequency: 4096 }, usual: {} },
  { name: "QWHA", type: "QHFT", config: { r: 8 }, usual: {} },
  { name: "C3A", type: "C3A", config: { blockSize: 16 }, usual: {} },
];

const parts: readonly Entry[] = [
  { name: "SHiRA", type: "SHIRA", config: { r: 8, randomSeed: 1 }, usual: {} },
  { name: "PaCA", type: "PACA", config: { r: 16, alpha: 16 }, usual: {} },
  { name: "SVF (CLIP-SVD)", type: "SVF", config: {}, budget: "singular values only" },
  { name: "FRoD", type: "FROD", config: { sparseRate: 0.0586 }, usual: {} },
  { name: "LoLDU", type: "LOLDU", config: { r: 256 }, budget: "pivots only" },
  {
    name: "query and value in full",
    type: "FULL",
    config: { targetModules: ["query", "value"] },
    budget: "everything in these modules",
  },
];

const networks: readonly Entry[] = [
  { name: "bottleneck, Houlsby", type: "BOTTLENECK", config: { placement: "houlsby", reductionFactor: 32 } },
  { name: "bottleneck, Pfeiffer", type: "BOTTLENECK", config: { placement: "pfeiffer" } },
  { name: "bottleneck, parallel", type: "BOTTLENECK", config: { placement: "pfeifferParallel", reductionFactor: 16 } },
  {
    name: "Compacter",
    type: "COMPACTER",
    config: { reductionFactor: 8, phmRank: 4 },
    budget: "Kronecker factors of rank 4",
  },
  {
    name: "MAM",
    type: "COMPOSITION",
    config: {
      ...mam({
        prefixTuning: { numVirtualTokens: 8, prefixProjection: false },
        adapter: { reductionFactor: 32 },
      }),
    },
  },
  {
    name: "UniPELT",
    type: "COMPOSITION",
    config: {
      ...unipelt({
        prefixTuning: { numVirtualTokens: 4, prefixProjection: false },
        adapter: { reductionFactor: 64 },
        lora: { r: 3, targetModules: [...QUERY_VALUE] },
      }),
    },
  },
  { name: "Poly, one task", type: "POLY", config: { r: 2, nSkills: 4 } },
  { name: "bottleneck at linear modules", type: "BOTTLENECK", config: { bottleneckSize: 8 } },
];

/** Their experts start and are trained together, as nothing trained before is there to route over. */
const routers: readonly Entry[] = [
  {
    name: "X-LoRA, experts trained",
    type: "XLORA",
    config: { hiddenSize: 256, adapters: { a: "", b: "", c: "", d: "" }, r: 2, useTrainableAdapters: true },
  },
  { name: "Arrow, experts trained", type: "ARROW", config: { experts: 4, r: 2, topK: 2, trainExperts: true } },
];

const vectors: readonly Entry[] = [
  {
    name: "IA3",
    type: "IA3",
    config: { targetModules: ["key", "value", "output.dense"], feedforwardModules: ["output.dense"] },
    budget: "vectors only",
  },
  { name: "BitFit", type: "BITFIT", config: {}, budget: "biases only" },
  { name: "BEFT", type: "BEFT", config: { targetModules: ["value"] }, budget: "biases only" },
  { name: "LN tuning", type: "LN_TUNING", config: {}, budget: "norms only" },
  {
    name: "trainable tokens",
    type: "TRAINABLE_TOKENS",
    // The first of the vocabulary: special tokens, which every text has, and the most frequent pieces.
    config: { tokenIndices: Array.from({ length: 128 }, (_, i) => i), targetModules: ["word_embeddings"] },
  },
];

const prompts: readonly Entry[] = [
  { name: "prefix tuning", type: "PREFIX_TUNING", config: { numVirtualTokens: 16 } },
  {
    name: "prefix tuning, projected",
    type: "PREFIX_TUNING",
    config: { numVirtualTokens: 16, prefixProjection: true, encoderHiddenSize: 16 },
  },
  { name: "LLaMA-Adapter", type: "ADAPTION_PROMPT", config: { adapterLen: 32 } },
  { name: "prompt tuning", type: "PROMPT_TUNING", config: { numVirtualTokens: 20 }, budget: "vectors of 20 tokens" },
  {
    name: "prompt tuning, from words",
    type: "PROMPT_TUNING",
    config: { numVirtualTokens: 20, promptTuningInit: "SAMPLE_VOCAB" },
    budget: "vectors of 20 tokens",
  },
  {
    name: "P-tuning",
    type: "P_TUNING",
    config: { numVirtualTokens: 20, encoderHiddenSize: 48 },
    budget: "with its encoder",
  },
  {
    name: "P-tuning, LSTM",
    type: "P_TUNING",
    config: { numVirtualTokens: 20, encoderHiddenSize: 16, encoderReparameterizationType: "LSTM" },
    budget: "with its encoder",
  },
  {
    name: "multitask prompt tuning",
    type: "MULTITASK_PROMPT_TUNING",
    config: { numVirtualTokens: 20, numRanks: 8 },
    budget: "one task",
  },
];

const groups: Readonly<Record<string, readonly Entry[]>> = {
  "low rank": lowRank,
  "shared and drawn": shared,
  products,
  rotations,
  transforms,
  "parts of the weight": parts,
  "networks of their own": networks,
  routers,
  vectors,
  "virtual tokens": prompts,
};

/** Everything of the comparison. The baseline of all trained weights stands apart: {@link fullFineTuning}. */
export const entries: readonly Entry[] = Object.values(groups).flat();

/** What kind of method an entry is. */
export const groupOf = (name: string): string =>
  Object.entries(groups).find(([, members]) => members.some((entry) => entry.name === name))?.[0] ?? "everything";

/** The other end of the scale: every weight of the encoder is trained. */
export const fullFineTuning: Entry = {
  name: "full fine-tuning",
  type: "FULL",
  config: { targetModules: ["word_embeddings", "position_embeddings", "query", "key", "value", "dense", "LayerNorm"] },
  budget: "everything",
};

/** All lines of the table but that of the frozen encoder. */
export const compared: readonly Entry[] = [...entries, fullFineTuning];
