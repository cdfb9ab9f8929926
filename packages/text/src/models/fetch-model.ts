import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { downloadFileToCacheDir, listFiles } from "@huggingface/hub";
import { PeftError } from "@onnx-peft/core";

/** Where a model comes from. */
export interface ModelSource {
  /** A folder in the Hugging Face layout, or the id of a model on the hub ("owner/name"). */
  readonly model: string;
  /** Branch, tag or commit on the hub; default "main". Name a commit to get the same bytes for ever. */
  readonly revision?: string;
  /** Hub access token for private models. */
  readonly accessToken?: string;
  /** Which ONNX file of an export to take; default "onnx/model.onnx". */
  readonly onnxFile?: string;
}

const wanted =
  /^(config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|vocab\.txt|model\.safetensors(\.index\.json)?|model-\d+-of-\d+\.safetensors)$/;

/**
 * The folder of a model: a local one as it is, a hub model through the shared Hugging Face cache. Only config, tokenizer
 * and safetensors are fetched; the ONNX export when there are no safetensors.
 * @throws PeftError MODEL_NOT_FOUND
 */
export async function modelFolder(source: ModelSource): Promise<string> {
  const local = resolve(source.model);
  if (existsSync(local) && statSync(local).isDirectory()) return local;
  if (!/^[\w.-]+\/[\w.-]+$/.test(source.model)) {
    throw new PeftError("MODEL_NOT_FOUND", `"${source.model}" is neither a folder nor a hub model id (owner/name).`);
  }
  const access = {
    repo: source.model,
    ...(source.revision === undefined ? {} : { revision: source.revision }),
    ...(source.accessToken === undefined ? {} : { accessToken: source.accessToken }),
  };
  try {
    const files: string[] = [];
    for await (const file of listFiles({ ...access, recursive: true })) if (file.type === "file") files.push(file.path);
    const hasSafetensors = files.some((path) => path.endsWith(".safetensors"));
    const onnx = source.onnxFile ?? "onnx/model.onnx";
    const chosen = files.filter(
      (path) => wanted.test(path) || (!hasSafetensors && (path === onnx || path === `${onnx}_data`)),
    );
    let config = "";
    for (const path of chosen) {
      const stored = await downloadFileToCacheDir({ ...access, path });
      if (path === "config.json") config = stored;
    }
    if (config === "") throw new PeftError("MODEL_NOT_FOUND", `The hub model "${source.model}" has no config.json.`);
    return resolve(config, "..");
  } catch (cause) {
    if (PeftError.isInstance(cause)) throw cause;
    throw new PeftError(
      "MODEL_NOT_FOUND",
      `"${source.model}" is no local folder and could not be fetched from the hub: ${cause instanceof Error ? cause.message : String(cause)}.`,
      {
        hint: "Check the id, your connection and, for private models, the access token.",
        cause,
      },
    );
  }
}
