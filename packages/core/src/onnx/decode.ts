import { PeftError } from "../errors.ts";
import { decodeSource } from "./decode-model.ts";
import { externalResolver, refuseExternal } from "./external-data.ts";
import type { Model } from "./ir.ts";
import type { Limits } from "./limits.ts";
import { memorySource } from "./source.ts";

/** Options of {@link decodeModel}. */
export interface DecodeModelOptions {
  readonly limits?: Partial<Limits>;
  /** Folders into which links of external data files may lead; see `ExternalOptions`. Default: none. */
  readonly allowLinksInto?: readonly string[];
  /** Folder in which external data lies. Default: none, a model with external data is refused. */
  readonly folder?: string;
}

/** Anything that is not our error is a defect of the reader, reported as such instead of as a crash of the caller. */
export function guarded<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (PeftError.isInstance(cause)) throw cause;
    throw new PeftError("ONNX_INVALID", `${what} could not be decoded: ${String(cause)}.`, {
      details: { defect: true },
      cause,
    });
  }
}

/**
 * A model from the bytes of an ONNX file. Weights are views into `bytes`: keep them unchanged.
 *
 * Time is linear in the file. Nodes come in topological order, model-local functions inlined, "ai.onnx" as "".
 * Documentation strings, quantization annotations and `model_version` are not kept.
 *
 * @throws PeftError ONNX_TRUNCATED, ONNX_INVALID, ONNX_LIMIT, ONNX_UNSUPPORTED, ONNX_EXTERNAL_DATA, UNKNOWN_ELEMENT_TYPE.
 *   Structural problems are collected and listed in one error.
 * @example
 * const model = decodeModel(await response.bytes());
 * model.graph.inputs.map(({ name }) => name); // ["input_ids", "attention_mask"]
 */
export function decodeModel(bytes: Uint8Array, options: DecodeModelOptions = {}): Model {
  const { folder, limits, allowLinksInto } = options;
  const external =
    folder === undefined ? refuseExternal : externalResolver({ folder, ...(allowLinksInto && { allowLinksInto }) });
  return guarded("the model", () => decodeSource(memorySource(bytes), { ...(limits && { limits }), external }));
}
