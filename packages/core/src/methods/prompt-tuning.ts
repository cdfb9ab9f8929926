import { z } from "zod";
import { PeftError } from "../errors.ts";
import { roleOf } from "./dense.ts";
import { normal } from "./init.ts";
import { defineMethod, type StartInput } from "./method.ts";
import { withPrompt } from "./prompt.ts";
import { promptKeys } from "./prompt-files.ts";

/** Options of a prompt of vectors before the words. */
export const promptFields = {
  /** Vectors that stand before those of every sequence. */
  numVirtualTokens: z.int().positive().max(65_536),
  /** RANDOM: N(0, 1). SAMPLE_VOCAB: rows of the embedding drawn at random. TEXT: those of `initTokens`, repeated or cut. */
  promptTuningInit: z.enum(["RANDOM", "SAMPLE_VOCAB", "TEXT"]).default("RANDOM"),
  /** The text that TEXT begins with, for the record: its tokens are given in `initTokens`. */
  promptTuningInitText: z.string().max(65_536).optional(),
  tokenizerNameOrPath: z.string().max(4096).optional(),
  /** Ids of the text's tokens. Not written to files. */
  initTokens: z.array(z.int().min(0)).max(65_536).optional(),
} as const;

// 1. Config
export const promptTuningConfig = z.strictObject(promptFields);
export type PromptTuningConfig = z.output<typeof promptTuningConfig>;

/**
 * Rows of the embedding that a prompt starts from; null for random vectors.
 * @throws PeftError CONFIG_INVALID for a text without tokens, and tokens that are no rows
 */
export function promptStart({ config, frozen, random, site }: StartInput<PromptTuningConfig>): Float32Array | null {
  const { numVirtualTokens: n, promptTuningInit, initTokens = [] } = config;
  if (promptTuningInit === "RANDOM") return null;
  const { inFeatures: rows, outFeatures: width } = site;
  if (promptTuningInit === "TEXT" && (initTokens.length === 0 || initTokens.some((token) => token >= rows))) {
    throw new PeftError("CONFIG_INVALID", `A prompt that starts from a text needs initTokens, ids below ${rows}.`, {
      hint: "Tokenise promptTuningInitText with the model's tokenizer.",
    });
  }
  const weight = frozen.weight();
  const result = new Float32Array(n * width);
  for (let i = 0; i < n; i++) {
    const token = promptTuningInit === "TEXT" ? (initTokens[i % initTokens.length] ?? 0) : random.integer(rows);
    result.set(weight.subarray(token * width, (token + 1) * width), i * width);
  }
  return result;
}

/**
 * Prompt tuning: v trained vectors stand before those of every sequence's words. Lester et al. 2021, arXiv 2104.08691; peft's PROMPT_TUNING. One
 * tensor [v, width], N(0, 1) unless it starts from words. Masks are 1 and types 0 for virtual tokens, positions count them, and outputs per token are
 * those of the real ones: a loss needs no labels for the others. What a file computes from its first token (BERT's pooler) it computes from a
 * virtual one, as in peft. Not an identity start.
 */
export const promptTuning = defineMethod<PromptTuningConfig>({
  type: "PROMPT_TUNING",
  paper: "2104.08691",
  kinds: ["tokens"],
  identityAtStart: false,
  neutral: "empty",
  config: promptTuningConfig,
  defaultTargets: () => true,
  wholeModel: true,
  virtualTokens: { as: "sequence", role: () => "prompt" },
  // 2. Parameters
  parameters: () => ({}),
  shared: ([site], { numVirtualTokens }) => ({
    prompt: { shape: [numVirtualTokens, site?.outFeatures ?? 0], free: ["tokens", null], init: normal(1) },
  }),
  start(input) {
    const prompt = promptStart(input);
    return prompt ? { prompt } : {};
  },
  // 3. Forward
  forward: (g, { y }, values) => withPrompt(g, y, roleOf(values, "prompt")),
  // 4. Delta
  delta: null,
  noDelta: "vectors before the words of a sequence are no change of a weight",
  noMixedBatch: "sequences of one batch would differ in length",
  // 5. Keys
  keys: {},
  sharedKeys: promptKeys,
  swap: { config: (config) => ({ ...config, numVirtualTokens: 1 }), tensors: (tensors) => tensors },
  peft: { unwritten: ["initTokens"] },
});
