import type { Feeds, RuntimeTensor } from "@onnx-peft/core";

/** A tokenised text. */
export interface EncodedText {
  readonly inputIds: Int32Array;
  /** Segment of each token, for models that have segments. */
  readonly tokenTypeIds?: Int32Array;
}

export const int64 = (dims: readonly number[], data: BigInt64Array): RuntimeTensor => ({ type: "int64", dims, data });
export const float32 = (dims: readonly number[], data: Float32Array): RuntimeTensor => ({
  type: "float32",
  dims,
  data,
});

/**
 * Pads texts to the longest of them: `input_ids`, `attention_mask` and `token_type_ids`, int64 [texts, tokens].
 * @param padId id of the padding token.
 */
export function padBatch(texts: readonly EncodedText[], padId: number): Feeds & { readonly input_ids: RuntimeTensor } {
  const tokens = texts.reduce((longest, { inputIds }) => Math.max(longest, inputIds.length), 1);
  const shape = [texts.length, tokens];
  const ids = new BigInt64Array(texts.length * tokens).fill(BigInt(padId));
  const mask = new BigInt64Array(ids.length);
  const types = new BigInt64Array(ids.length);
  texts.forEach(({ inputIds, tokenTypeIds }, row) => {
    const start = row * tokens;
    for (let i = 0; i < inputIds.length; i++) {
      ids[start + i] = BigInt(inputIds[i] as number);
      mask[start + i] = 1n;
      if (tokenTypeIds) types[start + i] = BigInt(tokenTypeIds[i] as number);
    }
  });
  return { input_ids: int64(shape, ids), attention_mask: int64(shape, mask), token_type_ids: int64(shape, types) };
}
