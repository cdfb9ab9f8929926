import { access } from "node:fs/promises";
import { join } from "node:path";
import { AutoTokenizer, type PreTrainedTokenizer } from "@huggingface/transformers";
import { PeftError } from "@onnx-peft/core";
import { type ModelSource, modelFolder } from "../models/fetch-model.ts";

const NEEDED = ["tokenizer.json", "tokenizer_config.json"];

/**
 * Loads a tokenizer of transformers.js from a folder or the hub.
 *
 * @throws PeftError MODEL_NOT_FOUND, TOKENIZER_NOT_FOUND when tokenizer.json or tokenizer_config.json is missing,
 *   TOKENIZER_INVALID when they cannot be read.
 * @example
 * const tokenizer = await loadTokenizer({ model: "./models/tiny" });
 */
export async function loadTokenizer(source: ModelSource): Promise<PreTrainedTokenizer> {
  const folder = await modelFolder(source);
  for (const name of NEEDED) {
    await access(join(folder, name)).catch((cause: unknown) => {
      throw new PeftError("TOKENIZER_NOT_FOUND", `expected ${NEEDED.join(" and ")} in ${folder}, ${name} is missing.`, {
        hint: "Save the tokenizer as a fast one (tokenizer.json).",
        cause,
      });
    });
  }
  try {
    return await AutoTokenizer.from_pretrained(folder, { local_files_only: true });
  } catch (cause) {
    throw new PeftError(
      "TOKENIZER_INVALID",
      `could not read the tokenizer in ${folder}: ${cause instanceof Error ? cause.message : String(cause)}.`,
      {
        cause,
      },
    );
  }
}
