import { PeftError } from "../../errors.ts";

/**
 * Names in `adapter_model.safetensors`. `peft` wraps the model twice, hence the prefix; the name of the adapter is taken
 * out of every key. After the prefix (seen in files of peft 0.21.2):
 *
 * - LoRA: `<module>.lora_A.weight` [r, in], `<module>.lora_B.weight` [out, r]; embeddings `<module>.lora_embedding_A` and
 *   `_B` without `.weight`; `lora_bias` adds `<module>.lora_B.bias`; DoRA adds `<module>.lora_magnitude_vector` without
 *   `.weight`; trained base biases are `<module>.base_layer.bias` where the module is adapted, `<module>.bias` elsewhere.
 * - LN tuning: `<module>.ln_tuning_layers.weight` and `.bias`.
 * - tensors that all modules share are `base_model.<key>`, without "model." (VeRA's `base_model.vera_A`); here they keep that name.
 * - prompt methods: `prompt_embeddings` [virtual tokens, width] and for several tasks `prefix_task_cols` and `prefix_task_rows`.
 * - modules_to_save: `<module>.weight`, `<module>.bias` and so on, as in the base model, with no trace of the wrapper.
 */
const prefix = "base_model.model.";
/** Begins the names of tensors that belong to the adapter as a whole. */
export const sharedPrefix = "base_model.";

/**
 * Tensors of prompt methods, which stand alone. These methods do not wrap the model, so that in their files all other names begin
 * with "base_model." only.
 */
const promptNames = new Set(["prompt_embeddings", "prefix_task_cols", "prefix_task_rows"]);

const isPromptFile = (names: Iterable<string>): boolean => [...names].some((name) => promptNames.has(name));

/**
 * Tensors under the names that `peft` gives them.
 * @example
 * addPeftPrefix(new Map([["classifier.weight", tensor]])).keys(); // "base_model.model.classifier.weight"
 */
export function addPeftPrefix<T>(tensors: ReadonlyMap<string, T>): Map<string, T> {
  const own = isPromptFile(tensors.keys()) ? sharedPrefix : prefix;
  const isWhole = (name: string): boolean => name.startsWith(sharedPrefix) || promptNames.has(name);
  return new Map([...tensors].map(([name, tensor]) => [isWhole(name) ? name : own + name, tensor]));
}

/**
 * Tensors under their names without the prefix of `peft`.
 * @throws PeftError PEFT_KEYS when a name lacks the prefix
 */
export function stripPeftPrefix<T>(tensors: ReadonlyMap<string, T>, where: string): Map<string, T> {
  const stripped = new Map<string, T>();
  const without: string[] = [];
  const isPrompt = isPromptFile(tensors.keys());
  const own = isPrompt ? sharedPrefix : prefix;
  for (const [key, tensor] of tensors) {
    const name = key.startsWith(own) ? key.slice(own.length) : key;
    // A module called "base_model" would be taken for what the adapter shares.
    const isWhole = isPrompt ? promptNames.has(name) : name.startsWith(sharedPrefix);
    if (name !== "" && isWhole === !key.startsWith(own)) stripped.set(name, tensor);
    else without.push(key);
  }
  if (without.length > 0) {
    const shown = without.slice(0, 5).map((key) => JSON.stringify(key.slice(0, 200)));
    throw new PeftError(
      "PEFT_KEYS",
      `expected names that begin with "${own}" in ${where}, received ${shown.join(", ")} (${without.length} in all).`,
      { hint: "Adapters of other tools name their tensors differently and are not read here." },
    );
  }
  return stripped;
}

/** What `peft` adds to modules_to_save for a task type, when it saves and again when it loads (0.21). */
const headsOfTask: Readonly<Record<string, readonly string[]>> = {
  SEQ_CLS: ["classifier", "score"],
  TOKEN_CLS: ["classifier", "score"],
  QUESTION_ANS: ["qa_outputs"],
};

/**
 * The modules that `peft` trains as a whole and expects in the file. It compares the ends of names as text, not part by
 * part: DistilBERT's `pre_classifier` ends with `classifier` and counts too. When the tensors of one of these modules are
 * missing, `peft` fails to load the adapter.
 *
 * @example
 * savedModules(["distilbert", "pre_classifier", "classifier", "dropout"], { task_type: "SEQ_CLS" });
 * // ["pre_classifier", "classifier"]
 */
export function savedModules(
  moduleNames: readonly string[],
  config: { readonly modules_to_save?: readonly string[] | null; readonly task_type?: string | null },
): string[] {
  const task = config.task_type ?? "";
  const heads = Object.hasOwn(headsOfTask, task) ? (headsOfTask[task] ?? []) : [];
  const endings = [...(config.modules_to_save ?? []), ...heads];
  return moduleNames.filter((name) => endings.some((ending) => name.endsWith(ending)));
}
