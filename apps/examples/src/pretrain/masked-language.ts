import { createRandom, type Feeds, type RuntimeTensor, streamSeed } from "@onnx-peft/core";

/** Ids of the special tokens and the size of the vocabulary. */
export interface MaskingVocabulary {
  readonly pad: number;
  readonly mask: number;
  /** Ids below this are special and never masked. */
  readonly firstOrdinary: number;
  readonly size: number;
}

const int64 = (dims: readonly number[], data: BigInt64Array): RuntimeTensor => ({ type: "int64", dims, data });

/**
 * Pads samples and masks tokens for masked-language modelling (Devlin et al. 2018): of the chosen share, 80 % become
 * [MASK], 10 % a random token, 10 % stay. At least one token of a sample is chosen. The choice is a function of `key`.
 */
export function maskedBatch(
  samples: readonly Int32Array[],
  vocabulary: MaskingVocabulary,
  share: number,
  key: string,
): Feeds {
  const random = createRandom(streamSeed("mask", key));
  const length = Math.max(...samples.map((s) => s.length));
  const shape = [samples.length, length];
  const ids = new BigInt64Array(samples.length * length).fill(BigInt(vocabulary.pad));
  const attention = new BigInt64Array(ids.length);
  const positions: bigint[] = [];
  const labels: bigint[] = [];
  samples.forEach((sample, row) => {
    const ordinary: number[] = [];
    sample.forEach((id, i) => {
      ids[row * length + i] = BigInt(id);
      attention[row * length + i] = 1n;
      if (id >= vocabulary.firstOrdinary) ordinary.push(i);
    });
    const order = random.permutation(ordinary.length);
    const count = Math.min(ordinary.length, Math.max(1, Math.round(share * ordinary.length)));
    for (let k = 0; k < count; k++) {
      const at = row * length + (ordinary[order[k] as number] as number);
      positions.push(BigInt(at));
      labels.push(ids[at] as bigint);
      const dice = random.uniform();
      if (dice < 0.8) ids[at] = BigInt(vocabulary.mask);
      else if (dice < 0.9)
        ids[at] = BigInt(vocabulary.firstOrdinary + random.integer(vocabulary.size - vocabulary.firstOrdinary));
    }
  });
  return {
    input_ids: int64(shape, ids),
    attention_mask: int64(shape, attention),
    token_type_ids: int64(shape, new BigInt64Array(ids.length)),
    masked_positions: int64([positions.length], BigInt64Array.from(positions)),
    labels: int64([labels.length], BigInt64Array.from(labels)),
  };
}
