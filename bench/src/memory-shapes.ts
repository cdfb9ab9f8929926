import type { Storage } from "./stored-model.ts";

/** What is trained, and how it is cut. */
export interface MemoryShape {
  readonly title: string;
  readonly family: "bert" | "llama";
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly vocabulary: number;
  readonly batch: number;
  readonly tokens: number;
  readonly microBatchTokens?: number;
  readonly recompute?: "blocks";
  /** Storage of the frozen linear layers; default float32. */
  readonly storage?: Storage;
  readonly compute?: "int8";
  readonly targetModules: readonly string[] | "all-linear";
}

const WHOLE = Number.MAX_SAFE_INTEGER;
const queryValue = ["query", "value"];
const mini = { family: "bert", hidden: 384, layers: 6, heads: 12, intermediate: 1536, vocabulary: 30522 } as const;
const base = { family: "bert", hidden: 768, layers: 12, heads: 12, intermediate: 3072, vocabulary: 30522 } as const;
const llama = { family: "llama", hidden: 256, layers: 4, heads: 4, intermediate: 688, vocabulary: 16000 } as const;

/**
 * Small and large batches, long sequences, many layers, a large head, cut and whole, recomputed and not; 8-bit arithmetic and quantised
 * bases.
 */
export const memoryShapes: readonly MemoryShape[] = [
  { title: "MiniLM, 16 x 128 in micro-batches", ...mini, batch: 16, tokens: 128, targetModules: queryValue },
  {
    title: "MiniLM, 16 x 128 whole",
    ...mini,
    batch: 16,
    tokens: 128,
    microBatchTokens: WHOLE,
    targetModules: queryValue,
  },
  {
    ...{ title: "MiniLM, 16 x 128 whole, recomputed", ...mini, batch: 16, tokens: 128, microBatchTokens: WHOLE },
    ...{ recompute: "blocks", targetModules: queryValue },
  },
  { title: "MiniLM, 1 x 16", ...mini, batch: 1, tokens: 16, targetModules: queryValue },
  {
    title: "MiniLM, 4 x 512 whole",
    ...mini,
    batch: 4,
    tokens: 512,
    microBatchTokens: WHOLE,
    targetModules: queryValue,
  },
  {
    ...{ title: "MiniLM, all linear layers, 8 x 128 whole", ...mini, batch: 8, tokens: 128, microBatchTokens: WHOLE },
    targetModules: "all-linear",
  },
  {
    ...{
      title: "24 narrow layers, 16 x 64 whole",
      family: "bert",
      hidden: 128,
      layers: 24,
      heads: 4,
      intermediate: 512,
    },
    ...{ vocabulary: 8000, batch: 16, tokens: 64, microBatchTokens: WHOLE, targetModules: queryValue },
  },
  { title: "BERT-base, 8 x 128 in micro-batches", ...base, batch: 8, tokens: 128, targetModules: queryValue },
  {
    ...{ title: "Llama-like decoder, head over 16,000 words, 4 x 128 whole", ...llama, batch: 4, tokens: 128 },
    ...{ microBatchTokens: WHOLE, targetModules: ["q_proj", "v_proj"] },
  },
  {
    ...{ title: "Llama-like decoder, 4 x 128 whole, recomputed", ...llama, batch: 4, tokens: 128 },
    ...{ microBatchTokens: WHOLE, recompute: "blocks", targetModules: ["q_proj", "v_proj"] },
  },
  ...(["mini", "base"] as const).map(
    (name): MemoryShape => ({
      ...(name === "mini"
        ? { title: "MiniLM, int8 arithmetic, 16 x 128 in micro-batches", ...mini, batch: 16 }
        : { title: "BERT-base, int8 arithmetic, 8 x 128 in micro-batches", ...base, batch: 8 }),
      ...{ tokens: 128, compute: "int8", targetModules: queryValue },
    }),
  ),
  ...(["int8", "int4", "nf4"] as const).map(
    (storage): MemoryShape => ({
      ...{ title: `BERT-base in ${storage}, 8 x 128 in micro-batches`, ...base, batch: 8, tokens: 128 },
      ...{ storage, targetModules: queryValue },
    }),
  ),
  {
    ...{ title: "BERT-base in int4, int8 arithmetic, 8 x 128 in micro-batches", ...base, batch: 8, tokens: 128 },
    ...{ storage: "int4", compute: "int8", targetModules: queryValue },
  },
];
