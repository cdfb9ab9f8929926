import { z } from "zod";
import { PeftError } from "../errors.ts";
import { kaimingUniform, normal, zeros } from "./init.ts";
import { convolutionDelta, convolutionParameters, convolutionUpdate } from "./lora-convolution.ts";
import { scaledProduct } from "./matrix.ts";
import { type AdapterTensor, defineMethod } from "./method.ts";

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
  /** Start of A: true is PyTorch's uniform one, "gaussian" N(0, 1/r^2). B starts at zero with both. */
  initLoraWeights: z.union([z.literal(true), z.literal("gaussian")]).default(true),
});
export type LoraConfig = z.output<typeof loraConfig>;

/** What B·A is multiplied by. */
export const loraScale = ({ r, alpha, useRslora }: LoraConfig): number => alpha / (useRslora ? Math.sqrt(r) : r);

const tensor = (t: AdapterTensor | undefined): AdapterTensor => {
  if (!t) throw new PeftError("PARAMETER", "A LoRA site needs both lora_A and lora_B.");
  return t;
};

/**
 * LoRA: y = x·Wᵀ + scale·(x·Aᵀ)·Bᵀ with W frozen. Hu et al. 2021, arXiv 2106.09685; scale = alpha / r, or alpha / sqrt(r)
 * (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732). Dropout acts on the update's x only.
 * Shapes: x [..., in], W [out, in], A [r, in], B [out, r], y [..., out]. Parameters: r * (in + out) per site.
 * Convolutions have a form of their own: {@link convolutionUpdate}.
 * @example
 * injectAdapter(model, { method: lora, config: { r: 8, alpha: 16, targetModules: ["query", "value"] } });
 */
export const lora = defineMethod<LoraConfig>({
  type: "LORA",
  paper: "2106.09685",
  kinds: ["linear", "conv"],
  identityAtStart: true,
  neutral: "empty",
  config: loraConfig,
  defaultTargets: null,
  patterns: { r: "rankPattern", alpha: "alphaPattern" },

  // 2. Parameters: B starts at zero, so a new adapter changes nothing.
  parameters(site, { r, initLoraWeights }) {
    const init = initLoraWeights === true ? kaimingUniform(Math.sqrt(5)) : normal(1 / r);
    if (site.kind === "conv") return convolutionParameters(site, r, init);
    return {
      A: { shape: [r, site.inFeatures], free: ["r", null], init },
      B: { shape: [site.outFeatures, r], free: [null, "r"], init: zeros },
    };
  },

  // 3. Forward: the scale sits on the rank-sized product, the cheapest place.
  forward(g, { x, y, site }, { A, B }, config) {
    if (!A || !B) throw new PeftError("PARAMETER", "A LoRA site needs both A and B.");
    const seen = g.dropout(x, config.dropout);
    if (site.kind === "conv") return g.add(y, convolutionUpdate(g, seen, A, B, site, loraScale(config)));
    const h = g.fusedMatMul(seen, A, { transB: true, alpha: loraScale(config) }); // [..., r]
    return g.add(y, g.fusedMatMul(h, B, { transB: true }));
  },

  // 4. Delta: scale·B·A, [out, in]; for a module that is stored [in, out] its transpose.
  delta({ A, B }, config, site) {
    const [a, b, scale] = [tensor(A), tensor(B), loraScale(config)];
    if (site.kind === "conv") return { weight: { add: convolutionDelta(a, b, site, scale) } };
    return { weight: { add: scaledProduct(b, a, scale, site.fanInFanOut ?? false) } };
  },

  // 5. Keys
  keys: { A: "lora_A.weight", B: "lora_B.weight" },

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
    tensors({ A, B }, config) {
      const [a, b, scale] = [tensor(A), tensor(B), loraScale(config)];
      return { A: a, B: { dims: b.dims, data: b.data.map((v) => v * scale) } };
    },
  },
  peft: {
    names: { alpha: "lora_alpha", dropout: "lora_dropout" },
    only: {
      use_dora: [false],
      lora_bias: [false],
      bias: ["none"],
      use_qalora: [false],
      layer_replication: [null],
      target_parameters: [null],
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
