import type { AdapterConfigInput } from "../../adapters/select.ts";
import { mam, unipelt } from "../composition.ts";
import type { GroundName } from "./grounds.ts";
import { siteConfigs } from "./site-configs.ts";

/** One way in which a method is tried on the tiny model; a method may have several. */
export interface TriedConfig {
  readonly type: string;
  /** What is special about it. */
  readonly variant?: string;
  readonly config: AdapterConfigInput;
  /** How far tensors are moved from their start at random, where 0.3 is too much or too little. */
  readonly noise?: number;
  /** Part of the forward is taken without gradient: A and B are checked against that definition elsewhere. */
  readonly stopsGradients?: true;
  /** Options that take other values on other grounds than the transformer block, whose modules have other names and sizes. */
  readonly elsewhere?: Readonly<Partial<Record<GroundName, AdapterConfigInput>>>;
  /** Grounds on which this configuration is refused although the method adapts their modules, and how. */
  readonly refusedOn?: Readonly<Partial<Record<GroundName, { readonly code: string; readonly reason: string }>>>;
}

const config = (fields: Readonly<Record<string, unknown>>): AdapterConfigInput => fields as AdapterConfigInput;
const mixed = { targetModules: ["query", "value", "up", "output.dense"] };

/** X-LoRA reads hidden states of tokens, which an MLP does not have. */
const noTokens = { MLP: { code: "HIDDEN_STATES", reason: "of shape [batch, tokens, 8]" } } as const;
/** Parts of a composition choose modules by name, and only the transformer block has them. */
const onBlocksOnly = (reason: string): NonNullable<TriedConfig["refusedOn"]> => {
  const refusal = { code: "TARGETS_NOT_FOUND", reason };
  return { MLP: refusal, convolution: refusal, embedding: refusal, experts: refusal };
};

/** What the behaviour matrix tries. A method that is missing here fails. */
export const triedConfigs: readonly TriedConfig[] = [
  {
    type: "LORA",
    config: config({
      r: 3,
      alpha: 5,
      dropout: 0.1,
      rankPattern: { up: 2, "layer.1.*query": 4 },
      alphaPattern: { value: 7 },
      targetModules: "all-linear",
      modulesToSave: ["classifier"],
    }),
    elsewhere: { experts: config({ dropout: 0 }) },
  },
  { type: "VERA", config: config({ r: 3, dropout: 0.1, targetModules: "all-linear" }) },
  {
    type: "VERA",
    variant: "projections from the seed",
    config: config({ r: 3, saveProjection: false, projectionPrngKey: 5, ...mixed }),
  },
  { type: "PVERA", config: config({ r: 3, dropout: 0.1, targetModules: "all-linear" }) },
  {
    type: "PVERA",
    variant: "projections from the seed",
    config: config({ r: 2, saveProjection: false, projectionPrngKey: 5, dInitial: 0.2, ...mixed }),
  },
  {
    type: "IA3",
    config: config({ targetModules: ["key", "value", "output.dense"], feedforwardModules: ["output.dense"] }),
  },
  { type: "LOHA", config: config({ r: 2, alpha: 3, targetModules: "all-linear", modulesToSave: ["classifier"] }) },
  { type: "LOKR", config: config({ r: 1, alpha: 2, targetModules: "all-linear" }) },
  {
    type: "LOKR",
    variant: "both factored",
    config: config({ r: 1, decomposeBoth: true, decomposeFactor: 4, ...mixed }),
  },
  {
    type: "ADALORA",
    config: config({ initR: 3, targetR: 2, totalStep: 50, dropout: 0.1, targetModules: "all-linear" }),
    noise: 0.6,
  },
  {
    type: "TRIADAPTLORA",
    config: config({
      initRank: 3,
      referenceRank: 6,
      alpha: 4,
      dropout: 0.1,
      totalSteps: 60,
      targetModules: "all-linear",
    }),
    noise: 0.6,
  },
  {
    type: "TRIADAPTLORA",
    variant: "identities, constant scale",
    config: config({ initRank: 2, referenceRank: 4, init: "eye", scaleBy: 2, ...mixed }),
    noise: 0.6,
  },
  {
    type: "TRIADAPTLORA",
    variant: "single ranks",
    config: config({ init: "single", referenceRank: 3, ...mixed }),
    noise: 0.6,
  },
  { type: "DELORA", config: config({ r: 2, deloraLambda: 4, moduleDropout: 0.1, targetModules: "all-linear" }) },
  { type: "GRALORA", config: config({ r: 4, alpha: 6, graloraK: 2, dropout: 0.1, ...mixed }) },
  { type: "GRALORA", variant: "hybrid", config: config({ r: 4, hybridR: 2, graloraK: 4, ...mixed }) },
  { type: "MISS", config: config({ r: 3, dropout: 0.1, targetModules: "all-linear" }) },
  { type: "MISS", variant: "bat", config: config({ r: 4, initWeights: "bat", ...mixed }) },
  { type: "MISS", variant: "mini", config: config({ r: 3, miniR: 2, initWeights: "mini", ...mixed }) },
  { type: "HIRA", config: config({ r: 2, dropout: 0.1, targetModules: "all-linear" }) },
  { type: "GLORA", config: config({ r: 2, targetModules: "all-linear" }) },
  {
    type: "GLORA",
    variant: "vectors",
    config: config({ configAB: "vector", configC: "vector", configDE: "vector", ...mixed }),
  },
  {
    type: "GLORA",
    variant: "numbers",
    config: config({ configAB: "constant", configC: "none", configDE: "none", ...mixed }),
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
  { type: "DYLORA", config: config({ rMax: 4, alpha: 6, dropout: 0.1, targetModules: "all-linear" }) },
  { type: "DYLORA", variant: "at rank 2", config: config({ rMax: 4, rank: 2, update: "prefix", ...mixed }) },
  {
    type: "DYLORA",
    variant: "blocks, a rank for each module",
    config: config({
      rMax: 4,
      blockSize: 2,
      perSite: true,
      convention: "lycoris",
      optimizerMask: true,
      rankDistribution: { geometric: 0.4 },
      ...mixed,
    }),
  },
  {
    type: "HYDRA",
    config: config({ parallelRank: 2, sequentialRank: 3, dropout: 0.1, scale: 1.5, targetModules: "all-linear" }),
  },
  {
    type: "HYDRA",
    variant: "learned scale, no biases",
    config: config({ scale: "learned", bias: false, init: "normal", ...mixed }),
  },
  { type: "HYDRA", variant: "sequential", config: config({ branches: "sequential", init: "kaiming", ...mixed }) },
  {
    type: "VBLORA",
    config: config({
      r: 2,
      numVectors: 6,
      vectorLength: 4,
      initVectorBankBound: 0.6,
      initLogitsStd: 3,
      dropout: 0.1,
      targetModules: ["query", "up"],
    }),
    elsewhere: { MLP: config({ initLogitsStd: 4 }) },
  },
  {
    type: "UNILORA",
    config: config({ r: 3, thetaDLength: 40, initThetaDBound: 2, dropout: 0.1, targetModules: "all-linear" }),
  },
  {
    type: "UNILORA",
    variant: "normal start, indices in the file",
    config: config({ r: 2, projSeed: 9, thetaDLength: 29, initWeights: false, saveIndices: true, ...mixed }),
  },
  {
    type: "LILY",
    config: config({ r: 3, strideA: 2, numB: 3, scaling: 1.5, targetModules: "all-linear" }),
    elsewhere: { MLP: config({ targetModules: ["up", "down"] }) },
  },
  {
    type: "LILY",
    variant: "drawn B, an A for each module",
    config: config({ r: 2, initWeights: false, ...mixed }),
    elsewhere: { MLP: config({ targetModules: ["up", "down"] }) },
  },
  {
    type: "MOS",
    config: config({
      r: 4,
      equivalentRank: 3,
      privateRank: 1,
      alpha: 4,
      shardsPerVector: 4,
      dropout: 0.1,
      targetModules: "all-linear",
    }),
  },
  {
    type: "MOS",
    variant: "nothing private",
    config: config({ r: 3, equivalentRank: 2, privateRank: 0, shardsPerVector: 2, ...mixed }),
  },
  {
    type: "MOS",
    variant: "one list for both, pools by shape",
    config: config({
      r: 3,
      equivalentRank: 2,
      privateRank: 1,
      shardsPerVector: 2,
      dissociate: false,
      poolBy: "shape",
      ...mixed,
    }),
  },
  { type: "RANDLORA", config: config({ r: 3, alpha: 6, dropout: 0.1, targetModules: "all-linear" }), noise: 0.1 },
  {
    type: "RANDLORA",
    variant: "sparse, official scale",
    config: config({ r: 2, alpha: 4, sparse: true, scaling: "official", ...mixed }),
    noise: 0.1,
  },
  { type: "KRONA", config: config({ a1: 4, a2: 2, targetModules: "all-linear" }) },
  { type: "KRONA", variant: "paper layout", config: config({ a1: 2, a2: 4, layout: "paper", scale: 2, ...mixed }) },
  { type: "TINYLORA", config: config({ r: 3, u: 5, dropout: 0.1, targetModules: "all-linear" }) },
  {
    type: "TINYLORA",
    variant: "shared, projections from the seed",
    config: config({
      u: 7,
      weightTying: 0.6,
      saveProjection: false,
      initWeights: "uniform",
      initVBound: 0.5,
      ...mixed,
    }),
  },
  {
    type: "TLORA_TENSOR",
    config: config({ transformRank: 2, residualRank: 3, initStd: 0.5, targetModules: "all-linear" }),
    noise: 0.15,
  },
  {
    type: "TLORA_TENSOR",
    variant: "LoRA residual, two factors",
    config: config({
      transformRank: 3,
      residual: "lora",
      residualRank: 2,
      order: 2,
      scale: 1.5,
      apply: "chain",
      ...mixed,
    }),
    noise: 0.15,
  },
  {
    type: "TLORA_TENSOR",
    variant: "one free transform",
    config: config({ transformRank: 1, residual: "none", order: 1, ...mixed }),
    noise: 0.15,
  },
  {
    type: "TLORA_TENSOR",
    variant: "residual alone",
    config: config({ transformRank: 0, residualRank: 2, initStd: 0.5, ...mixed }),
  },
  { type: "PACA", config: config({ r: 3, alpha: 5, targetModules: "all-linear" }) },
  { type: "PACA", variant: "largest columns", config: config({ r: 2, selection: "weightNorm", ...mixed }) },
  { type: "PACA", variant: "split", config: config({ r: 2, alpha: 4, form: "split", selection: [5, 1], ...mixed }) },
  { type: "PACA", variant: "in place", config: config({ r: 2, alpha: 4, form: "inPlace", ...mixed }) },
  { type: "TRAINABLE_TOKENS", config: config({ tokenIndices: [2, 3, 7], targetModules: ["word_embeddings"] }) },
  {
    type: "LORA",
    variant: "DoRA",
    config: config({ r: 2, alpha: 3, useDora: true, dropout: 0.1, targetModules: "all-linear" }),
    stopsGradients: true,
  },
  { type: "LORA", variant: "with a bias", config: config({ r: 2, loraBias: true, ...mixed }) },
  {
    type: "LORA",
    variant: "PiSSA",
    config: config({ r: 2, alpha: 4, initLoraWeights: "pissa", targetModules: "all-linear" }),
  },
  {
    type: "LORA",
    variant: "OLoRA and DoRA",
    config: config({ r: 2, initLoraWeights: "olora", useDora: true, ...mixed }),
    stopsGradients: true,
  },
  {
    type: "LORA",
    variant: "orthogonal start",
    config: config({ r: 4, initLoraWeights: "orthogonal", ...mixed }),
  },
  {
    type: "LORA",
    variant: "LoRA-FA",
    config: config({ r: 2, freezeA: true, dropout: 0.1, targetModules: "all-linear" }),
    elsewhere: { experts: config({ dropout: 0 }) },
  },
  {
    type: "LORA",
    variant: "LoRA-FA, projected",
    config: config({ r: 3, alpha: 5, freezeA: "projected", ...mixed }),
    refusedOn: {
      convolution: { code: "CONFIG_INVALID", reason: "for freezeA" },
    },
  },
  {
    type: "LORA",
    variant: "EVA",
    config: config({
      r: 2,
      alpha: 3,
      initLoraWeights: "eva",
      evaConfig: { whiten: true },
      targetModules: "all-linear",
    }),
  },
  {
    type: "LORA",
    variant: "LoRA-GA",
    config: config({ r: 2, initLoraWeights: "lora_ga", targetModules: "all-linear", modulesToSave: ["classifier"] }),
  },
  {
    type: "LORA",
    variant: "LoRA-GA, drawn directions, rsLoRA",
    config: config({
      r: 3,
      useRslora: true,
      initLoraWeights: "lora_ga",
      loraGaConfig: { direction: "random", scale: "gd_scale" },
      ...mixed,
    }),
  },
  { type: "LORA", variant: "CorDA", config: config({ r: 2, alpha: 3, initLoraWeights: "corda", ...mixed }) },
  {
    type: "LORA",
    variant: "CorDA, what matters least, DoRA",
    config: config({ r: 2, initLoraWeights: "corda", cordaConfig: { cordaMethod: "kpm" }, useDora: true, ...mixed }),
    stopsGradients: true,
  },
  { type: "LORA", variant: "embeddings", config: config({ r: 2, targetModules: ["word_embeddings", "query"] }) },
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
  {
    type: "BOTTLENECK",
    config: config({ bottleneckSize: 96, dropout: 0.1, modulesToSave: ["classifier"] }),
    elsewhere: { MLP: config({ targetModules: ["up", "down"] }) },
  },
  {
    type: "BOTTLENECK",
    variant: "linear, in front and behind",
    config: config({
      nonLinearity: "identity",
      initWeights: "mam_adapter",
      bottleneckSize: 3,
      scaling: "channel",
      ...mixed,
    }),
  },
  {
    type: "BOTTLENECK",
    variant: "linear and parallel",
    config: config({
      placement: "parallel",
      nonLinearity: "identity",
      initWeights: "mam_adapter",
      bottleneckSize: 3,
      scaling: "learned",
      targetModules: "all-linear",
    }),
  },
  {
    type: "BOTTLENECK",
    variant: "Houlsby",
    config: config({ placement: "houlsby", reductionFactor: 2, initWeights: "mam_adapter", dropout: 0.1 }),
  },
  {
    type: "BOTTLENECK",
    variant: "Houlsby without non-linearity",
    config: config({
      placement: "houlsby",
      nonLinearity: "identity",
      reductionFactor: 3,
      initWeights: "mam_adapter",
      scaling: "learned",
    }),
  },
  {
    type: "BOTTLENECK",
    variant: "Pfeiffer",
    config: config({
      placement: "pfeiffer",
      mhAdapter: true,
      reductionFactor: 2,
      initWeights: "mam_adapter",
      nonLinearity: "gelu",
    }),
  },
  {
    type: "BOTTLENECK",
    variant: "parallel, gated",
    config: config({ placement: "pfeifferParallel", nonLinearity: "tanh", useGating: true, scaling: "learned" }),
  },
  {
    type: "BOTTLENECK",
    variant: "own norms",
    config: config({
      placement: "pfeifferParallel",
      mhAdapter: true,
      lnBefore: true,
      lnAfter: true,
      nonLinearity: "leakyrelu",
      parallelInput: "branch",
    }),
  },
  {
    type: "BOTTLENECK",
    variant: "residual behind the norm",
    config: config({ placement: "pfeiffer", residualBeforeLn: false, reductionFactor: 2, initWeights: "mam_adapter" }),
  },
  {
    type: "BOTTLENECK",
    variant: "norm of the sum",
    config: config({
      placement: "pfeiffer",
      residualBeforeLn: "postAdd",
      lnAfter: true,
      adapterResidualBeforeLn: true,
      nonLinearity: "gelu_new",
      initWeights: "houlsby",
      reductionFactor: 2,
    }),
  },
  { type: "COMPACTER", config: config({ phmDim: 2, reductionFactor: 2, dropout: 0.1, modulesToSave: ["classifier"] }) },
  {
    type: "COMPACTER",
    variant: "++, rank 2, own first factors of rank one",
    config: config({
      placement: "pfeiffer",
      phmDim: 2,
      phmRank: 2,
      reductionFactor: 2,
      sharedPhmRule: false,
      factorizedPhmRule: true,
      phmInitRange: 0.7,
      nonLinearity: "relu",
    }),
    noise: 0.5,
  },
  {
    type: "COMPACTER",
    variant: "plain PHM, without non-linearity",
    config: config({
      phmDim: 4,
      reductionFactor: 2,
      factorizedPhmW: false,
      hypercomplexNonlinearity: "glorot-normal",
      phmCInit: "uniform",
      nonLinearity: "identity",
    }),
  },
  {
    type: "COMPACTER",
    variant: "everything shared, parallel",
    config: config({
      placement: "pfeifferParallel",
      phmDim: 2,
      reductionFactor: 2,
      sharedWPhm: true,
      factorizedPhmRule: true,
      phmCInit: "uniform",
      hypercomplexNonlinearity: "normal",
      phmInitRange: 0.5,
    }),
  },
  {
    type: "POLY",
    config: config({ r: 2, nTasks: 3, nSkills: 3, targetModules: "all-linear", modulesToSave: ["classifier"] }),
  },
  {
    type: "POLY",
    variant: "splits, drawn start",
    config: config({ r: 3, nTasks: 3, nSkills: 2, nSplits: 2, initWeights: false, ...mixed }),
  },
  {
    type: "COMPOSITION",
    variant: "MAM",
    refusedOn: onBlocksOnly("no site of kind attention"),
    config: config({
      ...mam({
        prefixTuning: { numVirtualTokens: 3, encoderHiddenSize: 5 },
        adapter: { nonLinearity: "tanh" },
      }),
      modulesToSave: ["classifier"],
    }),
  },
  {
    type: "COMPOSITION",
    variant: "UniPELT",
    refusedOn: onBlocksOnly("no site of kind attention"),
    config: config({
      ...unipelt({
        prefixTuning: { numVirtualTokens: 3, encoderHiddenSize: 5 },
        adapter: { reductionFactor: 2, nonLinearity: "tanh" },
        lora: { r: 2, targetModules: ["query", "value"] },
      }),
    }),
  },
  {
    type: "COMPOSITION",
    variant: "parts that meet",
    refusedOn: onBlocksOnly("fits targetModules"),
    config: config({
      parts: [
        { method: "LORA", config: { r: 2, targetModules: ["query", "output.dense"] } },
        {
          method: "BOTTLENECK",
          config: { placement: "houlsby", nonLinearity: "identity", initWeights: "mam_adapter", reductionFactor: 3 },
        },
        { method: "LN_TUNING", config: {} },
      ],
    }),
  },
  {
    type: "COMPOSITION",
    variant: "a schedule among the parts",
    refusedOn: onBlocksOnly("fits targetModules"),
    config: config({
      parts: [
        { method: "ADALORA", config: { initR: 3, targetR: 2, totalStep: 50, targetModules: ["value", "up"] } },
        { method: "IA3", config: { targetModules: ["key"], feedforwardModules: [] }, gated: true },
      ],
    }),
    noise: 0.5,
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
  { type: "PREFIX_TUNING", config: config({ numVirtualTokens: 3, modulesToSave: ["classifier"] }) },
  {
    type: "PREFIX_TUNING",
    variant: "projected",
    config: config({ numVirtualTokens: 3, prefixProjection: true, encoderHiddenSize: 5 }),
  },
  { type: "PREFIX_TUNING", variant: "zeros", config: config({ numVirtualTokens: 2, initWeights: "zero" }) },
  { type: "PROMPT_TUNING", config: config({ numVirtualTokens: 3, modulesToSave: ["classifier"] }) },
  {
    type: "PROMPT_TUNING",
    variant: "from words",
    config: config({ numVirtualTokens: 2, promptTuningInit: "SAMPLE_VOCAB" }),
  },
  { type: "P_TUNING", config: config({ numVirtualTokens: 2, encoderHiddenSize: 4, modulesToSave: ["classifier"] }) },
  {
    type: "P_TUNING",
    variant: "LSTM",
    config: config({
      numVirtualTokens: 3,
      encoderHiddenSize: 4,
      encoderReparameterizationType: "LSTM",
      encoderDropout: 0.1,
    }),
  },
  { type: "MULTITASK_PROMPT_TUNING", config: config({ numVirtualTokens: 3, numRanks: 2 }), noise: 0.6 },
  { type: "ADAPTION_PROMPT", config: config({ adapterLen: 3, modulesToSave: ["classifier"] }) },
  {
    type: "ADAPTION_PROMPT",
    variant: "last block",
    config: config({ adapterLen: 2, adapterLayers: 1, targetModules: ["self"] }),
  },
  {
    type: "XLORA",
    config: config({
      ...{
        hiddenSize: 8,
        adapters: { a: "", b: "", c: "" },
        r: 2,
        useTrainableAdapters: true,
        layerwiseScalings: true,
      },
      ...{ xloraDropoutP: 0.1, softmaxTemperature: 0.7, ...mixed },
    }),
    refusedOn: noTokens,
    noise: 0.6,
  },
  {
    type: "XLORA",
    variant: "deep, one scaling for all modules",
    config: config({
      ...{ hiddenSize: 8, adapters: { a: "", b: "" }, r: 2, useTrainableAdapters: true, globalScalingWeight: 2 },
      ...{ xloraDepth: 2, xloraSize: 6, ...mixed },
    }),
    refusedOn: noTokens,
    noise: 0.6,
  },
  {
    // All experts: with fewer, routes jump where two change places, and no finite difference holds there.
    type: "ARROW",
    config: config({ experts: 3, r: 2, topK: 3, routerTemperature: 0.5, trainExperts: true, ...mixed }),
    noise: 0.6,
  },
  ...siteConfigs,
];
