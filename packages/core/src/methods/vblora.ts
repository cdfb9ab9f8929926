import { z } from "zod";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { roleOf } from "./dense.ts";
import { normal, uniform } from "./init.ts";
import { scaledProduct } from "./matrix.ts";
import { type AdapterTensor, defineMethod } from "./method.ts";
import { sizeError } from "./sizes.ts";
import { chosenVectors, fromChosen, withoutLogits } from "./vblora-files.ts";

// 1. Config
export const vbloraConfig = z.strictObject({
  r: z.int().positive().max(65_536).default(4),
  /** Vectors in the bank that all modules share. */
  numVectors: z.int().positive().max(1_000_000).default(256),
  /** Length of a vector; divides the widths. */
  vectorLength: z.int().positive().max(65_536).default(256),
  /** Vectors that one piece is mixed from. */
  topk: z.int().positive().max(64).default(2),
  dropout: z.number().min(0).lt(1).default(0),
  initVectorBankBound: z.number().positive().default(0.02),
  initLogitsStd: z.number().positive().default(0.1),
  /** Files hold the chosen vectors and their shares, and no logits: an adapter that is read from one keeps its choice. */
  saveOnlyTopkWeights: z.boolean().default(false),
});
export type VbloraConfig = z.output<typeof vbloraConfig>;

/** Every piece is a softmax mixture of the topk vectors with the largest logits: [..., numVectors] to [..., length]. */
function mix(g: Builder, logits: Value, bank: Value, topk: number): Value {
  const [best, places] = g.op("TopK", [logits, g.ints([topk])], { axis: -1 }, { count: 2 });
  const weights = g.unsqueeze(g.softmax(best as Value), [-1]); // [..., topk, 1]
  return g.reduceSum(g.mul(weights, g.gather(bank, places as Value)), [-2], false);
}

/** The same in double precision; pieces row after row. */
function mixed(logits: AdapterTensor, bank: AdapterTensor, topk: number): Float64Array {
  const [vectors = 0, length = 0] = bank.dims;
  const pieces = logits.data.length / vectors;
  const result = new Float64Array(pieces * length);
  for (let p = 0; p < pieces; p++) {
    const { places, shares } = chosenVectors(logits.data.subarray(p * vectors, (p + 1) * vectors), topk);
    places.forEach((k, n) => {
      const weight = shares[n] as number;
      for (let i = 0; i < length; i++)
        result[p * length + i] = (result[p * length + i] as number) + weight * (bank.data[k * length + i] as number);
    });
  }
  return result;
}

/**
 * VB-LoRA: rows of A and columns of B consist of pieces, each a mixture of the topk best of a bank of vectors that all modules share.
 * Li et al. 2024, arXiv 2405.15179. y += (x·Aᵀ)·Bᵀ, no scale. Logits A [r, in / l, n], B [out / l, r, n]; bank [n, l] uniform in ±0.02.
 * Not the identity at the start. Parameters: n l once and r n (in + out) / l per site.
 */
export const vblora = defineMethod<VbloraConfig>({
  type: "VBLORA",
  paper: "2405.15179",
  kinds: ["linear"],
  identityAtStart: false,
  neutral: "empty",
  config: vbloraConfig,
  defaultTargets: null,
  // 2. Parameters
  parameters({ inFeatures, outFeatures }, { r, numVectors, vectorLength: l, initLogitsStd }) {
    if (inFeatures % l !== 0 || outFeatures % l !== 0) throw sizeError(`vectorLength ${l}`, inFeatures, outFeatures);
    return {
      logitsA: { shape: [r, inFeatures / l, numVectors], init: normal(initLogitsStd) },
      logitsB: { shape: [outFeatures / l, r, numVectors], init: normal(initLogitsStd) },
    };
  },
  shared: (_, { numVectors, vectorLength, initVectorBankBound }) => ({
    bank: { shape: [numVectors, vectorLength], init: uniform(initVectorBankBound) },
  }),
  // 3. Forward
  forward(g, { x, y, site }, values, { r, topk, dropout }) {
    const bank = roleOf(values, "bank");
    const a = g.reshape(mix(g, roleOf(values, "logitsA"), bank, topk), [r, site.inFeatures]);
    const pieces = g.transpose(mix(g, roleOf(values, "logitsB"), bank, topk), [0, 2, 1]); // [out / l, l, r]
    const h = g.fusedMatMul(g.dropout(x, dropout), a, { transB: true });
    return g.add(y, g.fusedMatMul(h, g.reshape(pieces, [site.outFeatures, r]), { transB: true }));
  },
  // 4. Delta
  delta(tensors, { r, topk, vectorLength: l }, { inFeatures, outFeatures, fanInFanOut = false }) {
    const bank = roleOf(tensors, "bank");
    const a = { dims: [r, inFeatures], data: Float32Array.from(mixed(roleOf(tensors, "logitsA"), bank, topk)) };
    const pieces = mixed(roleOf(tensors, "logitsB"), bank, topk); // [out / l, r, l]
    const data = Float32Array.from({ length: outFeatures * r }, (_, i) => {
      const [o, k] = [Math.floor(i / r), i % r];
      return pieces[(Math.floor(o / l) * r + k) * l + (o % l)] as number;
    });
    return { weight: { add: scaledProduct({ dims: [outFeatures, r], data }, a, 1, fanInFanOut) } };
  },
  // 5. Keys
  keys: { logitsA: "vblora_logits_A", logitsB: "vblora_logits_B" },
  sharedKeys: { bank: "base_model.vblora_vector_bank" },
  peft: {
    names: { dropout: "vblora_dropout" },
    only: { bias: ["none"] },
    pieces: { write: withoutLogits, read: fromChosen },
  },
});
