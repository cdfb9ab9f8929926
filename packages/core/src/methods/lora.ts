import { z } from "zod";
import { PeftError } from "../errors.ts";
import { multiply, scale as scaleMatrix, subtract } from "../linalg/matrix.ts";
import { perChannel, refusesGroups } from "./convolution.ts";
import { cordaConfig } from "./corda.ts";
import { addToWeight, frozenMatrix, roleOf, toMatrix } from "./dense.ts";
import { doraDelta, doraUpdate, magnitudeSpec, magnitudes } from "./dora.ts";
import { kaimingUniform, normal, zeros } from "./init.ts";
import { convolutionParameters, convolutionProduct, convolutionUpdate } from "./lora-convolution.ts";
import { dataStarts, loraCalibration, startFromData } from "./lora-data-starts.ts";
import { embeddingParameters, embeddingUpdate } from "./lora-embedding.ts";
import { evaConfig } from "./lora-eva.ts";
import { expertParameters, expertsDelta, expertsUpdate } from "./lora-experts.ts";
import { projectGradients } from "./lora-fa.ts";
import { loraGaConfig } from "./lora-ga.ts";
import { inPlainForm, type JointStart, jointStarts, startTogether, subtractsStart } from "./lora-starts.ts";
import { scaledProduct } from "./matrix.ts";
import { type ByRole, defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const loraConfig = z.strictObject({
  /** Rank of the update; parameters per site are r * (in + out). */
  r: z.int().positive().max(65_536).default(8),
  /** The update is multiplied by alpha / r. */
  alpha: z.number().default(8),
  /** Share of the input that the update does not see in training. */
  dropout: z.number().min(0).lt(1).default(0),
  /** Divide alpha by sqrt(r) instead of r (rsLoRA, arXiv 2312.03732). */
  useRslora: z.boolean().default(false),
  /** Rank of single modules: name ending or regular expression to r. */
  rankPattern: z.record(z.string(), z.int().positive().max(65_536)).default({}),
  /** Alpha of single modules. */
  alphaPattern: z.record(z.string(), z.number()).default({}),
  /**
   * Start: true is PyTorch's uniform A, "gaussian" A ~ N(0, 1/r²), both with B = 0; "pissa" and "olora" begin in the directions of
   * the weight, "orthogonal" with two factors whose product is zero: see `lora-starts.ts`. "eva" begins in the directions of the data, "lora_ga"
   * in those of the weight's gradient, "corda" in those of the weight that matter most or least to the data: `calibrateStart` makes them. All of
   * these for linear modules; others are left out.
   */
  initLoraWeights: z.union([z.literal(true), z.enum(["gaussian", ...jointStarts, ...dataStarts])]).default(true),
  /** Options of these three starts. */
  evaConfig: evaConfig.prefault({}),
  loraGaConfig: loraGaConfig.prefault({}),
  cordaConfig: cordaConfig.prefault({}),
  /** Train the norms of the weight's rows apart from their directions (DoRA): see `dora.ts`. */
  useDora: z.boolean().default(false),
  /**
   * Train B alone (LoRA-FA, arXiv 2308.03303; linear modules and convolutions): of x only its r-wide product with A is kept for the backward pass.
   * "projected" also multiplies the gradient of B by (A·Aᵀ)⁻¹ / scale² (linear modules), as peft's LoRA-FA optimiser does: see `lora-fa.ts`.
   */
  freezeA: z.union([z.boolean(), z.literal("projected")]).default(false),
  /** A bias at the end of the update (linear modules and convolutions); merging needs modules that have one. Not with useDora, as in peft. */
  loraBias: z.boolean().default(false),
});
export type LoraConfig = z.output<typeof loraConfig>;

/** Options that say how an adapter starts and is trained, with their defaults. */
const unwritten = ((): Partial<LoraConfig> => {
  const { freezeA, evaConfig, loraGaConfig, cordaConfig } = loraConfig.parse({});
  return { freezeA, evaConfig, loraGaConfig, cordaConfig };
})();

/** What B·A is multiplied by. */
export const loraScale = ({ r, alpha, useRslora }: LoraConfig): number => alpha / (useRslora ? Math.sqrt(r) : r);

const noProjection = (name: string): PeftError =>
  new PeftError(
    "CONFIG_INVALID",
    `expected linear modules for freezeA "projected", received the convolution "${name}".`,
    {
      hint: "Set freezeA to true, or exclude the module.",
    },
  );

/** Starts that need data. */
const isFromData = (start: LoraConfig["initLoraWeights"]): boolean => dataStarts.some((name) => name === start);

const isJoint = (start: LoraConfig["initLoraWeights"]): start is JointStart =>
  jointStarts.some((name) => name === start);

/**
 * LoRA: y = x·Wᵀ + scale·(x·Aᵀ)·Bᵀ with W frozen. Hu et al. 2021, arXiv 2106.09685; scale = alpha / r, or alpha / sqrt(r)
 * (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732). Dropout acts on the update's x only.
 * Shapes: x [..., in], W [out, in], A [r, in], B [out, r], y [..., out]. Parameters: r * (in + out) per site.
 * Convolutions, embeddings and experts have forms of their own: {@link convolutionUpdate}, {@link embeddingUpdate}, {@link expertsUpdate}.
 * @example
 * injectAdapter(model, { method: lora, config: { r: 8, alpha: 16, targetModules: ["query", "value"] } });
 */
export const lora = defineMethod<LoraConfig>({
  type: "LORA",
  paper: "2106.09685",
  kinds: ["linear", "conv", "embedding", "experts"],
  identityAtStart: ({ initLoraWeights, useDora }) =>
    isJoint(initLoraWeights) || subtractsStart(initLoraWeights) || useDora ? "rounded" : true,
  neutral: "empty",
  config: loraConfig,
  defaultTargets: null,
  patterns: { r: "rankPattern", alpha: "alphaPattern" },
  refuses(site, { initLoraWeights: start, freezeA, useDora, loraBias, dropout }) {
    const { kind } = site;
    if (useDora && loraBias) return "loraBias cannot be combined with useDora";
    if (kind === "experts" && useDora) return "useDora is one of linear modules, convolutions and embeddings";
    if ((kind === "experts" || kind === "embedding") && loraBias)
      return "loraBias is one of linear modules and convolutions";
    if (kind !== "linear" && (isJoint(start) || isFromData(start)))
      return `the start "${start}" is one of linear modules`;
    if (kind === "experts" && dropout > 0)
      return "dropout is none of experts, as peft's update is one of the parameter";
    if (kind === "experts" && freezeA === "projected") return 'freezeA "projected" is one of linear modules';
    // A starts at zero there: with A frozen nothing would ever change.
    if (kind === "embedding" && freezeA) return "freezeA leaves an embedding as it is";
    return useDora ? refusesGroups(site) : null;
  },

  // 2. Parameters: B starts at zero, so a new adapter changes nothing.
  parameters(site, config) {
    const { r, initLoraWeights, useDora, loraBias, freezeA } = config;
    const init = initLoraWeights === "gaussian" ? normal(1 / r) : kaimingUniform(Math.sqrt(5));
    const fixed = { trainable: false } as const;
    const beside: ByRole<ParameterSpec> = {
      ...(loraBias ? { bias: { shape: [site.outFeatures], init: zeros } } : {}),
      ...(useDora ? { magnitude: magnitudeSpec(site) } : {}),
    };
    if (site.kind === "embedding") return { ...embeddingParameters(site, r), ...beside };
    if (site.kind === "experts") {
      const factors = expertParameters(site, r, init);
      return freezeA ? { ...factors, A: { ...roleOf(factors, "A"), ...fixed } } : factors;
    }
    if (site.kind === "conv") {
      if (freezeA === "projected") throw noProjection(site.name);
      const factors = convolutionParameters(site, r, init);
      return { ...factors, ...(freezeA ? { A: { ...roleOf(factors, "A"), ...fixed } } : {}), ...beside };
    }
    const a: ParameterSpec = { shape: [r, site.inFeatures], free: ["r", null], init };
    const b: ParameterSpec = { shape: [site.outFeatures, r], free: [null, "r"], init: zeros };
    return {
      A: freezeA ? { ...a, ...fixed } : a,
      B: b,
      ...beside,
      ...(subtractsStart(initLoraWeights) ? { A0: { ...a, ...fixed }, B0: { ...b, ...fixed } } : {}),
    };
  },
  calibration: loraCalibration,
  start(input) {
    const { site, config, frozen } = input;
    const own: ByRole<Float32Array> = config.useDora ? { magnitude: magnitudes(site, frozen) } : {};
    if (site.kind !== "linear") return own;
    const { initLoraWeights: start, r } = config;
    const pair = isJoint(start)
      ? startTogether(start, input, r, loraScale(config))
      : isFromData(start)
        ? startFromData(input, loraScale(config))
        : {};
    const { A, B } = pair;
    return {
      ...pair,
      ...(A && B && subtractsStart(start) ? { A0: A.slice(), B0: B.slice() } : {}),
      ...own,
    };
  },

  // 3. Forward: the scale sits on the rank-sized product, the cheapest place.
  forward(g, at, values, config) {
    const { x, y, site } = at;
    const scale = loraScale(config);
    const { A0, B0, bias, magnitude } = values;
    const isTable = site.kind === "embedding";
    const [A, B] = [roleOf(values, isTable ? "embeddingA" : "A"), roleOf(values, isTable ? "embeddingB" : "B")];
    // With a subtracted start the update is s·([B, -B0])·[A; A0].
    const [left, right] = A0 && B0 ? [g.concat([B, g.neg(B0)], 1), g.concat([A, A0], 0)] : [B, A];
    if (at.experts) return expertsUpdate(g, { x, y, experts: at.experts }, A, B, site, scale);
    const seen = isTable ? x : g.dropout(x, config.dropout);
    const product =
      site.kind === "embedding"
        ? embeddingUpdate(g, x, A, B, scale)
        : site.kind === "conv"
          ? convolutionUpdate(g, seen, A, B, site, scale)
          : g.fusedMatMul(g.fusedMatMul(seen, right, { transB: true, alpha: scale }), left, { transB: true });
    const update = bias ? g.add(product, perChannel(g, g.mul(bias, scale), site.outFeatures, site)) : product;
    return magnitude ? doraUpdate(g, at, { A: right, B: left, magnitude, update, seen, scale }) : g.add(y, update);
  },

  // 4. Delta: scale·B·A as a matrix [out, in], in the module's layout.
  delta(tensors, config, site, frozen) {
    const scale = loraScale(config);
    const { A0, B0, bias, magnitude } = tensors;
    const isTable = site.kind === "embedding";
    const [a, b] = [roleOf(tensors, isTable ? "embeddingA" : "A"), roleOf(tensors, isTable ? "embeddingB" : "B")];
    if (site.kind === "experts") return { weight: { add: expertsDelta(a, b, site, scale) } };
    const shift = bias ? { bias: { add: bias.data.map((v) => v * scale) } } : {};
    const isPlain = !A0 || !B0;
    if (site.kind === "linear" && isPlain && !magnitude)
      return { weight: { add: scaledProduct(b, a, scale, site.fanInFanOut ?? false) }, ...shift };
    const product = site.kind === "conv" ? convolutionProduct(a, b, site) : multiply(toMatrix(b), toMatrix(a));
    const update = scaleMatrix(isPlain ? product : subtract(product, multiply(toMatrix(B0), toMatrix(A0))), scale);
    const change = magnitude ? doraDelta(frozenMatrix(site, frozen), update, magnitude.data) : update;
    return { weight: addToWeight(site, change), ...shift };
  },
  deltaNeedsWeight: ({ useDora }) => useDora,
  hooks: (setup) => (setup.config.freezeA === "projected" ? projectGradients(setup, loraScale, ({ r }) => r) : {}),

  // 5. Keys
  keys: {
    A: "lora_A.weight",
    B: "lora_B.weight",
    bias: "lora_B.bias",
    magnitude: "lora_magnitude_vector",
    A0: "lora_A0.weight",
    B0: "lora_B0.weight",
    embeddingA: "lora_embedding_A",
    embeddingB: "lora_embedding_B",
  },

  swap: {
    config: (config) => ({
      ...config,
      r: 1,
      alpha: 1,
      useRslora: false,
      dropout: 0,
      rankPattern: {},
      alphaPattern: {},
    }),
    tensors(tensors, config) {
      const scale = loraScale(config);
      const scaled = ["B", "B0", "bias", "embeddingB"];
      return Object.fromEntries(
        Object.entries(tensors).map(([role, tensor]) => [
          role,
          scaled.includes(role) ? { dims: tensor.dims, data: tensor.data.map((v) => v * scale) } : tensor,
        ]),
      );
    },
  },
  peft: {
    names: { alpha: "lora_alpha", dropout: "lora_dropout" },
    write: (adapter) => inPlainForm(adapter, unwritten),
    unwritten: Object.keys(unwritten),
    only: {
      bias: ["none"],
      use_qalora: [false],
      layer_replication: [null],
      trainable_token_indices: [null],
      alora_invocation_tokens: [null],
      use_bdlora: [null],
      arrow_config: [null],
      kasa_config: [null],
      velora_config: [null],
      monteclora_config: [null],
    },
  },
});
