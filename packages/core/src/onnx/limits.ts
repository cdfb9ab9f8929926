import { PeftError } from "../errors.ts";
import { byteLength, type ElementType } from "./element-type.ts";
import { elementCount } from "./elements.ts";

/** What a file may ask for; a file beyond a limit is refused with code ONNX_LIMIT. */
export interface Limits {
  /** Size of one ONNX file, and of all bytes converted from typed data fields. Protobuf itself ends at 2^31 - 1. */
  readonly maxBytes: number;
  /** Nodes of all graphs together, after functions are inlined. */
  readonly maxNodes: number;
  /** Fields of the file and entries of attribute lists; a field takes up to 100 bytes of memory once decoded. */
  readonly maxFields: number;
  /** Graphs within graphs. Protobuf's usual 100 nested messages allow 33. */
  readonly maxNesting: number;
  /** Dimensions of one tensor or value. */
  readonly maxRank: number;
  /** A single declared dimension. */
  readonly maxDimension: number;
  /** Bytes of a name, key or symbol. */
  readonly maxNameLength: number;
}

export const defaultLimits: Limits = {
  maxBytes: 2 ** 31 - 1,
  maxNodes: 1_000_000,
  maxFields: 2 ** 25,
  maxNesting: 32,
  maxRank: 64,
  maxDimension: 2 ** 40,
  maxNameLength: 16_384,
};

/** @throws PeftError ONNX_LIMIT when `received` is above `limit`. */
export function checkLimit(what: string, received: number, limit: number, where: string): void {
  if (received <= limit) return;
  throw new PeftError("ONNX_LIMIT", `expected at most ${limit} ${what}, received ${received} at ${where}.`, {
    hint: "Raise the limit in the options if the file is trusted.",
    details: { what, received, limit, where },
  });
}

/** @throws PeftError ONNX_LIMIT for a negative or absurd dimension, or too many of them. */
export function checkDims(dims: readonly number[], limits: Limits, where: string): void {
  checkLimit("dimensions", dims.length, limits.maxRank, where);
  for (const dim of dims) {
    if (dim < 0) throw new PeftError("ONNX_LIMIT", `expected dimensions >= 0, received [${dims}] at ${where}.`);
    checkLimit("elements in one dimension", dim, limits.maxDimension, where);
  }
}

/**
 * Bytes that type and dimensions of a tensor call for.
 * @throws PeftError ONNX_LIMIT
 */
export function declaredBytes(type: ElementType, dims: readonly number[], limits: Limits, where: string): number {
  checkDims(dims, limits, where);
  const bytes = byteLength(type, elementCount(dims, where));
  if (!Number.isSafeInteger(bytes)) {
    throw new PeftError("ONNX_LIMIT", `${type} [${dims}] at ${where} takes more than 2^53 bytes.`);
  }
  return bytes;
}

/** @throws PeftError ONNX_INVALID when the bytes of a tensor are not those that its type and shape call for. */
export function checkDeclared(
  expected: number,
  received: number,
  type: ElementType,
  dims: readonly number[],
  where: string,
): void {
  if (expected === received) return;
  throw new PeftError(
    "ONNX_INVALID",
    `expected ${expected} bytes of data for ${type} [${dims}], received ${received} at ${where}.`,
  );
}
