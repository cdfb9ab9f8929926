import type { Builder, EncoderSizes, Value, WeightReader } from "@onnx-peft/core";

/** What a task puts on top of an encoder. Names follow transformers' auto classes. */
export type Head =
  | { readonly type: "none" }
  | { readonly type: "sequence-classification"; readonly labels: number }
  | { readonly type: "token-classification"; readonly labels: number }
  /** Logits over the vocabulary for the rows that the extra input `masked_positions` [n] lists (index into batch*sequence). */
  | { readonly type: "masked-lm" };

/** Inputs that text encoders share. Shapes [batch, sequence], int64. */
export interface EncoderInputs {
  readonly inputIds: Value;
  readonly attentionMask: Value;
  readonly tokenTypeIds: Value | null;
}

/** What a body gives its head: rows [batch*sequence, hidden] and the same as [batch, sequence, hidden]. */
export interface EncodedText {
  readonly rows: Value;
  readonly hidden: Value;
}

/** One architecture: how a checkpoint's config becomes a graph. */
export interface EncoderArchitecture {
  readonly sizes: EncoderSizes;
  readonly vocabSize: number;
  readonly usesTokenTypes: boolean;
  /** Prefix of the body's weights in a checkpoint with a head: "bert." and the like. */
  readonly prefix: string;
  body(g: Builder, w: WeightReader, inputs: EncoderInputs): EncodedText;
  head(g: Builder, w: WeightReader, encoded: EncodedText, head: Exclude<Head, { type: "none" }>): Value;
}

/** The first token's row of every sample: [batch, sequence, hidden] to [batch, hidden]. */
export const firstToken = (g: Builder, hidden: Value): Value => g.squeeze(g.slice(hidden, [0], [1], [1]), [1]);

/** Rows of the masked positions: [batch*sequence, hidden] to [n, hidden]. */
export const maskedRows = (g: Builder, rows: Value): Value =>
  g.gather(rows, g.input("masked_positions", "int64", ["masked"]), 0);

/** Rows 0 to sequence - 1 of a position table, looked up: a table that is sliced would not be seen as an embedding. */
export function countedFromZero(g: Builder, table: Value, inputIds: Value): Value {
  const tokens = g.squeeze(g.op("Shape", [inputIds], { start: 1, end: 2 })[0] as Value, [0]);
  const [positions] = g.op("Range", [g.constant("int64", 0), tokens, g.constant("int64", 1)]);
  return g.gather(table, positions as Value);
}
