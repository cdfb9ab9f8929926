import type { PreTrainedTokenizer } from "@huggingface/transformers";
import type { EncodedText } from "../tasks/pad-batch.ts";
import type { EncodeOptions } from "./encode-options.ts";
import {
  bareIds,
  noPairs,
  resolveMaxLength,
  type SpecialTokens,
  specialTokensOf,
  wrapPair,
  wrapSingle,
} from "./special-tokens.ts";
import { inTimeSlices } from "./time-slices.ts";

/** One text or two. */
export interface TextInput {
  readonly text: string;
  readonly textPair?: string;
}

/**
 * Characters per token that are looked at: no token is longer on average, and a text of megabytes would block the event loop
 * for what is cut off anyway.
 */
const MAX_CHARACTERS_PER_TOKEN = 64;

function idsOf(tokenizer: PreTrainedTokenizer, text: string, maxLength: number): number[] {
  const limit = maxLength * MAX_CHARACTERS_PER_TOKEN;
  return bareIds(tokenizer, text.length > limit ? text.slice(0, limit) : text);
}

/**
 * Lengths of two texts that share `room`: the longer one is cut first; two long ones get half each, and of an odd room
 * the longer one gets the extra token. The rule "longest_first" of Hugging Face's fast tokenizers.
 */
export function longestFirst(first: number, second: number, room: number): [number, number] {
  if (first + second <= room) return [first, second];
  const [shorter, longer] = first <= second ? [first, second] : [second, first];
  const half = Math.floor(room / 2);
  const kept = Math.min(shorter, half);
  const rest = Math.min(longer, room - kept);
  return first <= second ? [kept, rest] : [rest, kept];
}

function encodeRow(
  tokenizer: PreTrainedTokenizer,
  special: SpecialTokens,
  row: TextInput,
  maxLength: number,
): EncodedText {
  const first = idsOf(tokenizer, row.text, maxLength);
  if (row.textPair === undefined) {
    const room = maxLength - special.single.before.length - special.single.after.length;
    return wrapSingle(special, first.slice(0, room));
  }
  if (special.pair === null) throw noPairs();
  const { before, between, after } = special.pair;
  const second = idsOf(tokenizer, row.textPair, maxLength);
  const room = maxLength - before.length - between.length - after.length;
  const [keptFirst, keptSecond] = longestFirst(first.length, second.length, room);
  return wrapPair(special, first.slice(0, keptFirst), second.slice(0, keptSecond));
}

/**
 * Tokenises texts and pairs: special tokens added, cut to `maxLength` ("longest_first" for pairs), not padded. Works in slices
 * of a few milliseconds; one long text is one slice.
 *
 * @param rows for triplets and for embeddings of pairs call it once per column: `rows.map(({ textPair }) => ({ text: textPair }))`.
 * @returns `inputIds`, and `tokenTypeIds` when the tokenizer has them, per row.
 * @throws PeftError TOKENIZER_UNSUPPORTED, MAX_LENGTH_INVALID.
 * @example
 * const [row] = await encodeRows(tokenizer, [{ text: "a dog" }], { maxLength: 128 });
 */
export async function encodeRows(
  tokenizer: PreTrainedTokenizer,
  rows: readonly TextInput[],
  options: EncodeOptions = {},
): Promise<EncodedText[]> {
  const special = specialTokensOf(tokenizer);
  const maxLength = resolveMaxLength(
    tokenizer,
    special,
    options.maxLength,
    rows.some((row) => row.textPair !== undefined),
  );
  const encoded: EncodedText[] = [];
  await inTimeSlices(
    rows.length,
    (i) => {
      encoded.push(encodeRow(tokenizer, special, rows[i] as TextInput, maxLength));
    },
    options.signal,
  );
  return encoded;
}
