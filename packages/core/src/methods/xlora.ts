import { z } from "zod";
import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { mulDims } from "../onnx/dims.ts";
import type { Value } from "../onnx/ir.ts";
import { roleOf } from "./dense.ts";
import { checkTopK, expertFactors, expertKeys, largest, weighedExperts } from "./experts.ts";
import { kaimingUniform, uniform } from "./init.ts";
import { type ByRole, defineMethod, type ParameterSpec } from "./method.ts";

// 1. Config
export const xloraConfig = z.strictObject({
  /** Width of the model's hidden states. */
  hiddenSize: z.int().positive(),
  /** The experts: names, and where they came from. */
  adapters: z.record(z.string(), z.string()),
  /** Their largest rank; shorter ones are filled up with zeros. */
  r: z.int().positive().max(65_536).default(8),
  /** Scalings are a softmax over the experts. */
  enableSoftmax: z.boolean().default(true),
  /** Scalings of the topKLora largest are a softmax over those. */
  enableSoftmaxTopk: z.boolean().default(false),
  softmaxTemperature: z.number().positive().default(1),
  /** Scalings of its own for every adapted module, instead of the same for all. */
  layerwiseScalings: z.boolean().default(false),
  /** Only the largest scalings count; null: all. */
  topKLora: z.int().positive().nullable().default(null),
  /** Linear layers of the classifier, and their width between the first and the last. */
  xloraDepth: z.int().positive().max(64).default(1),
  xloraSize: z.int().positive().default(2048),
  xloraDropoutP: z.number().min(0).lt(1).default(0.2),
  /** Train the experts too. */
  useTrainableAdapters: z.boolean().default(false),
  /** What experts are scaled by in the first pass: 0, they are off. */
  scalingPassValue: z.literal(0).default(0),
  /** Multiplies what the experts add. */
  globalScalingWeight: z.number().default(1),
  /** Name of the value that the classifier reads; default the last of [batch, tokens, hiddenSize]. */
  hiddenState: z.string().nullable().default(null),
});
export type XloraConfig = z.output<typeof xloraConfig>;

const countOf = ({ adapters }: XloraConfig): number => Object.keys(adapters).length;

/** Numbers of the classifier's linear layers among its layers: ReLU, and dropout where there is one, stand between them. */
function linearLayers({ xloraDepth, xloraDropoutP }: XloraConfig): number[] {
  return Array.from({ length: xloraDepth }, (_, i) => i * (xloraDropoutP > 0 ? 3 : 2));
}

/** Name of a module's scalings among the values that all modules share. */
const scalingsOf = (site: string): string => `scalings:${site}`;

/** Logits [batch, tokens, experts], or [batch, tokens, modules · experts], of hidden states. */
function classifier(g: Builder, hidden: Value, shared: ByRole<Value>, config: XloraConfig): Value {
  const layers = linearLayers(config);
  return layers.reduce((x, layer, i) => {
    const product = g.fusedMatMul(x, roleOf(shared, `${layer}.weight`), { transB: true });
    const result = g.add(product, roleOf(shared, `${layer}.bias`));
    return i === layers.length - 1 ? result : g.dropout(g.relu(result), config.xloraDropoutP);
  }, hidden);
}

/**
 * X-LoRA: trained LoRA adapters, mixed per token by scalings that a small classifier predicts from the model's own hidden states. Buehler
 * and Buehler 2024, arXiv 2402.07148. A first pass of the frozen model, experts off and without gradients, gives the hidden states h:
 *   s = softmax(classifier(h) / T) over the experts, y = x·Wᵀ + weight · sum_e s_e·scale_e·x·A_eᵀ·B_eᵀ.
 * The classifier is trained, at wish the experts. Start values of experts: `withExperts`. Shapes: h [batch, tokens, hiddenSize], s
 * [batch, tokens, experts], A [experts, r, in], B [experts, out, r] with the scales. Modules have to see every token: not a pooler.
 */
export const xlora = defineMethod<XloraConfig>({
  type: "XLORA",
  paper: "2402.07148",
  kinds: ["linear"],
  identityAtStart: true,
  neutral: "empty",
  config: xloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters: (site, config) =>
    expertFactors(site, { experts: countOf(config), r: config.r, trainable: config.useTrainableAdapters }),
  shared(sites, config) {
    const experts = countOf(config);
    if (experts === 0) throw new PeftError("NO_EXPERTS", "Expected at least one LoRA adapter, received none.");
    checkTopK(config.topKLora ?? 1, experts);
    const classes = experts * (config.layerwiseScalings ? sites.length : 1);
    const layers = linearLayers(config);
    const specs = layers.flatMap((layer, i): [string, ParameterSpec][] => {
      const width = i === 0 ? config.hiddenSize : config.xloraSize;
      const out = i === layers.length - 1 ? classes : config.xloraSize;
      return [
        [`${layer}.weight`, { shape: [out, width], init: kaimingUniform(Math.sqrt(5)) }],
        [`${layer}.bias`, { shape: [out], init: uniform(1 / Math.sqrt(width)) }],
      ];
    });
    return Object.fromEntries(specs);
  },
  hiddenStates: ({ hiddenSize, hiddenState }) => ({ width: hiddenSize, name: hiddenState }),
  derive(g, shared, config, sites, hidden) {
    if (!hidden) throw new PeftError("HIDDEN_STATES", "X-LoRA needs the model's hidden states.");
    const experts = countOf(config);
    const logits = classifier(g, g.stopGradient(hidden), shared, config);
    const scalings = (part: Value): Value => {
      const { softmaxTemperature: t, topKLora: k } = config;
      const all = config.enableSoftmax ? g.softmax(t === 1 ? part : g.div(part, t)) : part;
      if (k !== null) return largest(g, all, k, config.enableSoftmaxTopk ? "softmax" : "as they are");
      return config.enableSoftmaxTopk ? g.softmax(all) : all;
    };
    const weighed = (part: Value): Value =>
      config.globalScalingWeight === 1 ? scalings(part) : g.mul(scalings(part), config.globalScalingWeight);
    const same = config.layerwiseScalings ? null : weighed(logits);
    const own = (i: number): Value => weighed(g.slice(logits, [i * experts], [(i + 1) * experts], [2]));
    return Object.fromEntries(sites.map(({ name }, i) => [scalingsOf(name), same ?? own(i)]));
  },
  // 3. Forward
  forward(g, { x, y, site }, values) {
    const weights = roleOf(values, scalingsOf(site.name)); // [batch, tokens, experts]
    const [batch = 1, tokens = 1, experts = 1] = weights.shape;
    const isFlat = x.shape.length === 2;
    const fits = isFlat ? x.shape[0] === mulDims(batch, tokens) : x.shape[0] === batch && x.shape[1] === tokens;
    if (!fits || x.shape.length > 3) {
      throw new PeftError(
        "XLORA_TOKENS",
        `X-LoRA scales every token: expected [${batch}, ${tokens}, ${site.inFeatures}] at "${site.name}", received [${x.shape.join(", ")}].`,
        { hint: "Leave the module out (excludeModules)." },
      );
    }
    const perToken = isFlat ? g.reshape(weights, [mulDims(batch, tokens), experts], undefined) : weights;
    return g.add(y, weighedExperts(g, x, perToken, roleOf(values, "A"), roleOf(values, "B")));
  },
  // 4. Delta
  delta: null,
  noDelta: "the experts' scalings depend on the token",
  noMixedBatch: "the hidden states that scale the experts come from one pass of the whole batch",
  // 5. Keys: those of the classifier are peft's.
  keys: expertKeys,
  sharedKeys: (role) => `base_model.internal_xlora_classifier.layers.${role}`,
});
