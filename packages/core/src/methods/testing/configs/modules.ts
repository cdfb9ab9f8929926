import { mam, unipelt } from "../../composition.ts";
import { config, mixed, type TriedConfig } from "./tried-config.ts";

/** X-LoRA reads hidden states of tokens, which an MLP does not have. */
const noTokens = { MLP: { code: "HIDDEN_STATES", reason: "of shape [batch, tokens, 8]" } } as const;
/** Parts of a composition choose modules by name, and only the transformer block has them. */
const onBlocksOnly = (reason: string): NonNullable<TriedConfig["refusedOn"]> => {
  const refusal = { code: "TARGETS_NOT_FOUND", reason };
  return { MLP: refusal, convolution: refusal, embedding: refusal, experts: refusal };
};

/** Of modules and tokens beside the model, routers and compositions. */
export const moduleConfigs: readonly TriedConfig[] = [
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
];
