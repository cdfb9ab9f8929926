import { type ExternalReference, encodeParts, joinParts, largestMessage, tooLarge } from "./encode.ts";
import type { Model, TensorData } from "./ir.ts";
import { readFileRange, readTensorBytes } from "./tensor.ts";

/** Options of {@link encodeModel}. */
export interface EncodeOptions {
  /**
   * Where the bytes of an initialiser lie already, as a path relative to the folder the model will be opened in; null
   * embeds them. Default: embed all.
   */
  readonly reference?: (tensor: TensorData, name: string) => ExternalReference | null;
}

/**
 * An ONNX file in memory.
 *
 * @throws PeftError ONNX_LIMIT above 2 GB (use {@link EncodeOptions.reference} or `writeModel`); ONNX_INVALID, FILE_RANGE
 */
export function encodeModel(model: Model, options: EncodeOptions = {}): Uint8Array<ArrayBuffer> {
  const parts = encodeParts(model, { readBytes: readTensorBytes, reference: options.reference ?? (() => null) });
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (length > largestMessage) throw tooLarge("the model", length);
  return joinParts(parts, readFileRange);
}
