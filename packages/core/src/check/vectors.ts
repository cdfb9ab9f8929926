import { PeftError } from "../errors.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import type { Outputs, RuntimeTensor } from "../runtime/runtime.ts";

/** Floating-point contents of a result as float32. @throws PeftError ONNX_UNSUPPORTED */
export function floatsOf(tensor: RuntimeTensor): Float32Array {
  const { type, dims, data } = tensor;
  if (data instanceof Float32Array) return data;
  return toFloat32Array(tensorFrom(type, dims, data));
}

export function outputOf(outputs: Outputs, name: string): RuntimeTensor {
  const tensor = outputs[name];
  if (!tensor) throw new PeftError("OUTPUT_MISSING", `The runtime gave no output "${name}".`);
  return tensor;
}

/** |a - b| / |b|, both taken as vectors; 0 for equal ones, infinite when the lengths differ. */
export function relativeDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let [difference, norm] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += ((a[i] as number) - (b[i] as number)) ** 2;
    norm += (b[i] as number) ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / norm);
}

export const isFiniteEverywhere = (values: ArrayLike<number>): boolean => {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i] as number)) return false;
  return true;
};
