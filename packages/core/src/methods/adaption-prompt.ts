import { z } from "zod";
import { roleOf } from "./dense.ts";
import { normal, zeros } from "./init.ts";
import { type AdapterTensor, defineMethod, type FileForm, noForward } from "./method.ts";

// 1. Config
export const adaptionPromptConfig = z.strictObject({
  /** Vectors that each adapted block attends to. */
  adapterLen: z.int().positive().max(65_536),
  /** How many blocks are adapted, counted from the last one; default all that are chosen. */
  adapterLayers: z.int().positive().max(10_000).optional(),
});
export type AdaptionPromptConfig = z.output<typeof adaptionPromptConfig>;

const keys = { prompt: "adaption_prompt", gate: "adaption_gate" } as const;

/** Names of the adapted blocks' modules without the path before: "self_attn". */
function moduleEndings(tensors: ReadonlyMap<string, AdapterTensor>): string[] {
  const modules = [...tensors.keys()].flatMap((name) =>
    name.endsWith(`.${keys.gate}`) ? [name.slice(0, -keys.gate.length - 1)] : [],
  );
  return modules.map((name) => name.split(".").at(-1) ?? name);
}

/** peft names the module that holds attention by one ending, and counts blocks. */
function write({ config, tensors }: FileForm<AdaptionPromptConfig>): FileForm<AdaptionPromptConfig> {
  const endings = moduleEndings(tensors);
  const [ending] = endings;
  const isOne = ending !== undefined && endings.every((other) => other === ending);
  const named = isOne ? { targetModules: ending } : {};
  return { config: { ...config, adapterLayers: config.adapterLayers ?? endings.length, ...named }, tensors };
}

/** A text that names a module ends names, where other methods of peft read a pattern. */
function read(file: FileForm<AdaptionPromptConfig>): FileForm<AdaptionPromptConfig> {
  const { targetModules } = file.config as { readonly targetModules?: unknown };
  if (typeof targetModules !== "string") return file;
  return { ...file, config: { ...file.config, targetModules: [targetModules] } as AdaptionPromptConfig };
}

/**
 * LLaMA-Adapter: the last blocks attend to some trained vectors beside their own tokens, through a gate that starts at zero. Zhang et al. 2023, arXiv
 * 2303.16199; peft's ADAPTION_PROMPT. P [1, n, hidden] ~ N(0, 1), gate g [1] = 0: result += g · softmax(q·(P·W_kᵀ)ᵀ / sqrt(width))·(P·W_vᵀ), through the
 * block's own frozen projections, q with its positions, the vectors without. The softmax is its own, so that at g = 0 the block is untouched. As in peft the
 * sum is in front of the output projection, and where one module makes queries, keys and values (GPT-2) behind it.
 */
export const adaptionPrompt = defineMethod<AdaptionPromptConfig>({
  type: "ADAPTION_PROMPT",
  paper: "2303.16199",
  kinds: ["attention"],
  identityAtStart: true,
  neutral: "empty",
  config: adaptionPromptConfig,
  defaultTargets: () => true,
  narrow: (sites, { adapterLayers }) => (adapterLayers === undefined ? sites : sites.slice(-adapterLayers)),
  refuses({ attention }) {
    if (attention?.crosses) return "its keys come from another sequence";
    if (!attention || attention.hidden === null) return "no single linear layer makes its keys, or its values";
    return attention.isPacked && !attention.hasOutput ? "no linear layer takes its result" : null;
  },
  // 2. Parameters
  parameters: ({ attention }, { adapterLen }) => ({
    prompt: { shape: [1, adapterLen, attention?.hidden ?? 0], free: [null, "tokens", null], init: normal(1) },
    gate: { shape: [1], init: zeros },
  }),
  // 3. Forward
  forward: noForward,
  attend(g, { keys: keysOf, values: valuesOf, sizes }, values) {
    const prompt = g.squeeze(roleOf(values, "prompt"), [0]);
    return {
      beside: {
        keys: keysOf(prompt),
        values: () => valuesOf(prompt),
        gate: roleOf(values, "gate"),
        behindOutput: sizes.isPacked,
      },
    };
  },
  // 4. Delta
  delta: null,
  noDelta: "what queries find in other vectors is no change of a weight",
  noMixedBatch: "attention blocks are not cut into rows",
  // 5. Keys
  keys,
  swap: { config: (config) => ({ ...config, adapterLen: 1 }), tensors: (tensors) => tensors },
  peft: { write, read },
});
