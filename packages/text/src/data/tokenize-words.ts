import type { PreTrainedTokenizer } from "@huggingface/transformers";
import { PeftError } from "@onnx-peft/core";
import type { EncodedText } from "../tasks/pad-batch.ts";
import { IGNORED } from "../tasks/token-classification.ts";
import type { EncodeOptions } from "./encode-options.ts";
import { type LabelMap, labelId } from "./label-map.ts";
import type { TokenRow } from "./load-token-dataset.ts";
import { bareIds, resolveMaxLength, specialTokensOf, wrapSingle } from "./special-tokens.ts";
import { inTimeSlices } from "./time-slices.ts";

/** A tokenised sentence of words. */
export interface EncodedWords extends EncodedText {
  /** Label id at the first piece of every word, -100 elsewhere. */
  readonly labels: Int32Array;
  /** Position of the first piece of every word; fewer than the words of the row when it was cut. */
  readonly wordStarts: Int32Array;
}

/** True when a word's tokens do not depend on the space before it: WordPiece and SentencePiece, not byte-level BPE. */
function ignoresLeadingSpace(tokenizer: PreTrainedTokenizer): boolean {
  return ["a b", "0 1", "的 一"].every((text) => {
    const [first = "", second = ""] = text.split(" ");
    return [...bareIds(tokenizer, first), ...bareIds(tokenizer, second)].join() === bareIds(tokenizer, text).join();
  });
}

/**
 * Tokenises sentences of words for token classification. The tokens are those of the words with single spaces between them; a
 * word that the tokenizer makes nothing of (a control character) becomes the unknown token, so that every word keeps its label.
 * Works in slices of a few milliseconds.
 *
 * @param map labels of the tags.
 * @throws PeftError LABEL_UNKNOWN, TOKENIZER_UNSUPPORTED, MAX_LENGTH_INVALID.
 * @example
 * const map = buildLabelMap(rows.map((row) => row.tags));
 * const encoded = await encodeTokenRows(tokenizer, rows, map, { maxLength: 128 });
 */
export async function encodeTokenRows(
  tokenizer: PreTrainedTokenizer,
  rows: readonly TokenRow[],
  map: LabelMap,
  options: EncodeOptions = {},
): Promise<EncodedWords[]> {
  const special = specialTokensOf(tokenizer);
  const maxLength = resolveMaxLength(tokenizer, special, options.maxLength, false);
  const { before, after } = special.single;
  const room = maxLength - before.length - after.length;
  const separator = ignoresLeadingSpace(tokenizer) ? "" : " ";

  const idsOf = (word: string, index: number): number[] => {
    const ids = bareIds(tokenizer, index === 0 ? word : separator + word);
    if (ids.length > 0) return ids;
    if (typeof tokenizer.unk_token_id === "number") return [tokenizer.unk_token_id];
    throw new PeftError(
      "TOKENIZER_UNSUPPORTED",
      `expected tokens for the word ${JSON.stringify(word)}, received none, and there is no unknown token.`,
    );
  };

  const encodeSentence = ({ tokens, tags }: TokenRow): EncodedWords => {
    const ids: number[] = [];
    const labels: number[] = before.map(() => IGNORED);
    const wordStarts: number[] = [];
    for (let w = 0; w < tokens.length && ids.length < room; w++) {
      const pieces = idsOf(tokens[w] as string, w).slice(0, room - ids.length);
      wordStarts.push(before.length + ids.length);
      labels.push(labelId(map, tags[w] ?? ""), ...pieces.slice(1).map(() => IGNORED));
      ids.push(...pieces);
    }
    labels.push(...after.map(() => IGNORED));
    return { ...wrapSingle(special, ids), labels: Int32Array.from(labels), wordStarts: Int32Array.from(wordStarts) };
  };

  const encoded: EncodedWords[] = [];
  await inTimeSlices(
    rows.length,
    (i) => {
      encoded.push(encodeSentence(rows[i] as TokenRow));
    },
    options.signal,
  );
  return encoded;
}
