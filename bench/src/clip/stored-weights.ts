import { type RuntimeTensor, type TensorData, tensorFrom } from "@onnx-peft/core";

/** Weights as JSON: their bytes in base64. */
export type StoredWeights = Readonly<Record<string, { readonly dims: readonly number[]; readonly base64: string }>>;

export const storeWeights = (weights: Readonly<Record<string, RuntimeTensor>>): StoredWeights =>
  Object.fromEntries(
    Object.entries(weights).map(([name, { dims, data }]) => {
      const { buffer, byteOffset, byteLength } = data as Float32Array<ArrayBuffer>;
      return [name, { dims, base64: Buffer.from(buffer, byteOffset, byteLength).toString("base64") }];
    }),
  );

export const loadWeights = (stored: StoredWeights): Map<string, TensorData> =>
  new Map(
    Object.entries(stored).map(([name, { dims, base64 }]) => {
      const { buffer } = Uint8Array.from(Buffer.from(base64, "base64"));
      return [name, tensorFrom("float32", dims, new Float32Array(buffer))];
    }),
  );
