import { z } from "zod";
import { roleOf, toMatrix } from "./dense.ts";
import { normal } from "./init.ts";
import { type LayerStack, stackForward, stackResult, stackSpecs } from "./layer-stack.ts";
import { type LstmStack, lstmForward, lstmResult, lstmSpecs } from "./lstm.ts";
import { defineMethod, type ParameterSpec } from "./method.ts";
import { withPrompt } from "./prompt.ts";
import { promptForms, promptKeys } from "./prompt-files.ts";

// 1. Config
export const pTuningConfig = z.strictObject({
  /** Vectors that stand before those of every sequence. */
  numVirtualTokens: z.int().positive().max(65_536),
  /** What makes them from an embedding while they train: three layers, or a bidirectional LSTM and two layers. */
  encoderReparameterizationType: z.enum(["MLP", "LSTM"]).default("MLP"),
  /** Default the width of the model. */
  encoderHiddenSize: z
    .int()
    .positive()
    .max(1 << 20)
    .optional(),
  /** Layers of the LSTM. */
  encoderNumLayers: z.int().positive().max(16).default(2),
  /** Between layers of the LSTM. */
  encoderDropout: z.number().min(0).lt(1).default(0),
  /** The prompt itself is stored, and not what makes it: the form of files. */
  exported: z.boolean().default(false),
});
export type PTuningConfig = z.output<typeof pTuningConfig>;

interface Encoder {
  readonly lstm: LstmStack | null;
  readonly head: LayerStack;
}

/** Layers that make a prompt of some width: width - h - h - width, or an LSTM of h in both directions and 2h - 2h - width. */
function encoderOf(config: PTuningConfig, width: number): Encoder {
  const h = config.encoderHiddenSize ?? width;
  const isLstm = config.encoderReparameterizationType === "LSTM";
  return {
    lstm: isLstm
      ? { name: "lstm_head", input: width, hidden: h, layers: config.encoderNumLayers, dropout: config.encoderDropout }
      : null,
    head: { name: "mlp_head", widths: isLstm ? [2 * h, 2 * h, width] : [width, h, h, width], activation: "relu" },
  };
}

const forms = promptForms<PTuningConfig>((tensors, config) => {
  const embedding = toMatrix(roleOf(tensors, "embedding.weight"));
  const { lstm, head } = encoderOf(config, embedding.columns);
  const made = stackResult(lstm ? lstmResult(embedding, tensors, lstm) : embedding, tensors, head);
  return { dims: [made.rows, made.columns], data: Float32Array.from(made.data) };
});

/**
 * P-tuning: prompt tuning whose v vectors are made from an embedding [v, width] by a small network. Liu et al. 2021, arXiv 2103.10385; peft's P_TUNING,
 * with its encoders: MLP width - h - h - width with ReLU, or a two-layer bidirectional LSTM and 2h - 2h - width. The network is trained with the
 * embedding and left out of files, which hold the prompt that it makes; an adapter that was read is served and not trained further.
 */
export const pTuning = defineMethod<PTuningConfig>({
  type: "P_TUNING",
  paper: "2103.10385",
  kinds: ["tokens"],
  identityAtStart: false,
  neutral: "empty",
  config: pTuningConfig,
  defaultTargets: () => true,
  wholeModel: true,
  virtualTokens: { as: "sequence", role: ({ exported }) => (exported ? "prompt" : "embedding.weight") },
  // 2. Parameters
  parameters: () => ({}),
  shared([site], config): Record<string, ParameterSpec> {
    const { numVirtualTokens: v, exported } = config;
    const width = site?.outFeatures ?? 0;
    if (exported) return { prompt: { shape: [v, width], free: ["tokens", null], init: normal(1) } };
    const { lstm, head } = encoderOf(config, width);
    return {
      "embedding.weight": { shape: [v, width], init: normal(1) },
      ...(lstm ? lstmSpecs(lstm) : {}),
      ...stackSpecs(head),
    };
  },
  // 3. Forward
  forward(g, { y, site }, values, config) {
    const stored = values["prompt"];
    if (stored) return withPrompt(g, y, stored);
    const { lstm, head } = encoderOf(config, site.outFeatures);
    const embedding = roleOf(values, "embedding.weight");
    return withPrompt(g, y, stackForward(g, lstm ? lstmForward(g, embedding, values, lstm) : embedding, values, head));
  },
  // 4. Delta
  delta: null,
  noDelta: "vectors before the words of a sequence are no change of a weight",
  noMixedBatch: "sequences of one batch would differ in length",
  // 5. Keys
  keys: {},
  sharedKeys: promptKeys,
  swap: forms.swap,
  peft: { write: forms.write, read: forms.read },
});
