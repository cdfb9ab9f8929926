import { type Graph, PeftError } from "@onnx-peft/core";

/** What batches of texts can feed. */
const fed = new Set(["input_ids", "attention_mask", "token_type_ids"]);
const needed = ["input_ids", "attention_mask"];

/**
 * Checks that a batch of texts can feed an encoder: `input_ids` and `attention_mask`, perhaps `token_type_ids`, int64 and
 * nothing else.
 * @throws PeftError MODEL_INPUTS naming every input that does not fit.
 */
export function checkTextInputs({ inputs, initializers }: Pick<Graph, "inputs" | "initializers">): void {
  const real = inputs.filter(({ name }) => !initializers.has(name));
  const problems = [
    ...needed.filter((name) => !real.some((v) => v.name === name)).map((name) => `"${name}" is missing`),
    ...real.flatMap(({ name, type, shape }) => {
      if (!fed.has(name)) return [`"${name}" (${type} [${shape.join(", ")}]) cannot be fed from a text`];
      return type === "int64" ? [] : [`"${name}" is ${type}, expected int64`];
    }),
  ];
  if (problems.length === 0) return;
  throw new PeftError(
    "MODEL_INPUTS",
    `Expected an encoder with inputs ${[...fed].join(", ")} of int64, received one where ${problems.join("; ")}.`,
    {
      hint: "Export the encoder anew with these inputs, or load its safetensors.",
      details: { problems },
    },
  );
}

/**
 * Most tokens of a text that an encoder has positions for, from its config.json; null when the config does not say.
 * RoBERTa's table holds the padding index and what is before it as well.
 */
export function maxTokensOf(config: Readonly<Record<string, unknown>>): number | null {
  const positions = config["max_position_embeddings"];
  if (typeof positions !== "number" || config["position_embedding_type"] === "relative_key") return null;
  const countsFromPadding = /roberta|camembert/.test(String(config["model_type"]));
  return countsFromPadding ? positions - padIdOf(config, 1) - 1 : positions;
}

/** Id of the padding token, from config.json. */
export function padIdOf(config: Readonly<Record<string, unknown>>, otherwise = 0): number {
  const id = config["pad_token_id"];
  return typeof id === "number" ? id : otherwise;
}
