import type { PreTrainedTokenizer } from "@huggingface/transformers";
import { PeftError } from "@onnx-peft/core";
import type { EncodedText } from "../tasks/pad-batch.ts";

/** How a tokenizer wraps texts: ids before, between and after them. */
export interface SpecialTokens {
  readonly single: { readonly before: readonly number[]; readonly after: readonly number[] };
  /** null when the tokenizer knows no pairs. */
  readonly pair: {
    readonly before: readonly number[];
    readonly between: readonly number[];
    readonly after: readonly number[];
    /** Segment of the ids before and in the first text, between, in the second text, after. */
    readonly types: readonly [before: number, first: number, between: number, second: number, after: number];
  } | null;
  /** Whether rows get `tokenTypeIds`. */
  readonly hasTypes: boolean;
}

/** Ids of a text without special tokens. */
export const bareIds = (tokenizer: PreTrainedTokenizer, text: string): number[] =>
  tokenizer.encode(text, { add_special_tokens: false });

function indexOfRun(ids: readonly number[], run: readonly number[], from: number): number {
  for (let i = from; i + run.length <= ids.length; i++) if (run.every((id, k) => ids[i + k] === id)) return i;
  return -1;
}

/** Two texts whose ids are no special tokens and differ, so that they can be found again between special tokens. */
function probes(tokenizer: PreTrainedTokenizer): [string, string] {
  const special = new Set(tokenizer.all_special_ids);
  const usable: string[] = [];
  const seen = new Set<string>();
  // One character is a token in almost every vocabulary; the alphabets cover models of one language.
  for (const text of "aeiontsrABE0123456789.,!аеоиαειاي的一のкр한이") {
    const ids = bareIds(tokenizer, text);
    if (ids.length === 0 || ids.some((id) => special.has(id)) || seen.has(ids.join())) continue;
    seen.add(ids.join());
    usable.push(text);
    const [first, second] = usable;
    if (first !== undefined && second !== undefined) return [first, second];
  }
  throw new PeftError(
    "TOKENIZER_UNSUPPORTED",
    "expected a tokenizer that knows two of the most common letters or digits, received one without.",
  );
}

/**
 * Learns from two probes which special tokens a tokenizer adds, and where. Texts can then be cut to length without them, which
 * transformers.js itself cannot do: it cuts off the closing token.
 *
 * @throws PeftError TOKENIZER_UNSUPPORTED when the texts do not stand unchanged between the special tokens.
 */
export function specialTokensOf(tokenizer: PreTrainedTokenizer): SpecialTokens {
  const [a, b] = probes(tokenizer);
  const [idsA, idsB] = [bareIds(tokenizer, a), bareIds(tokenizer, b)];
  const single = tokenizer(a, { return_tensor: false });
  const start = indexOfRun(single.input_ids, idsA, 0);
  if (start < 0)
    throw new PeftError("TOKENIZER_UNSUPPORTED", `expected the ids of "${a}" within [${single.input_ids.join(", ")}].`);

  const pair = tokenizer(a, { text_pair: b, return_tensor: false });
  const first = indexOfRun(pair.input_ids, idsA, 0);
  const second = first < 0 ? -1 : indexOfRun(pair.input_ids, idsB, first + idsA.length);
  const types = pair.token_type_ids;
  const typeAt = (index: number): number => types?.[index] ?? 0;
  return {
    single: { before: single.input_ids.slice(0, start), after: single.input_ids.slice(start + idsA.length) },
    pair:
      second < 0
        ? null
        : {
            before: pair.input_ids.slice(0, first),
            between: pair.input_ids.slice(first + idsA.length, second),
            after: pair.input_ids.slice(second + idsB.length),
            types: [
              typeAt(0),
              typeAt(first),
              typeAt(first + idsA.length),
              typeAt(second),
              typeAt(second + idsB.length),
            ],
          },
    hasTypes: single.token_type_ids !== undefined,
  };
}

export const noPairs = (): PeftError =>
  new PeftError("TOKENIZER_UNSUPPORTED", "expected a tokenizer that takes two texts, received one that does not.");

/** Wraps one text. */
export function wrapSingle({ single, hasTypes }: SpecialTokens, ids: readonly number[]): EncodedText {
  const inputIds = Int32Array.from([...single.before, ...ids, ...single.after]);
  return hasTypes ? { inputIds, tokenTypeIds: new Int32Array(inputIds.length) } : { inputIds };
}

/** Wraps two texts. @throws PeftError TOKENIZER_UNSUPPORTED when the tokenizer knows no pairs. */
export function wrapPair(
  { pair, hasTypes }: SpecialTokens,
  first: readonly number[],
  second: readonly number[],
): EncodedText {
  if (pair === null) throw noPairs();
  const parts = [pair.before, first, pair.between, second, pair.after];
  const inputIds = Int32Array.from(parts.flat());
  if (!hasTypes) return { inputIds };
  return { inputIds, tokenTypeIds: Int32Array.from(parts.flatMap((ids, i) => ids.map(() => pair.types[i] ?? 0))) };
}

/**
 * Tokens a row may have.
 *
 * @param withPairs whether there are rows of two texts.
 * @throws PeftError MAX_LENGTH_INVALID when it is no whole number or leaves no room between the special tokens;
 *   TOKENIZER_UNSUPPORTED for pairs when the tokenizer knows none.
 */
export function resolveMaxLength(
  tokenizer: PreTrainedTokenizer,
  { single, pair }: SpecialTokens,
  requested: number | undefined,
  withPairs: boolean,
): number {
  // Tokenizers without a limit store 10^30 as theirs.
  const own = Number(tokenizer.model_max_length);
  const maxLength = requested ?? Math.min(512, own > 0 ? own : 512);
  let least = single.before.length + single.after.length + 1;
  if (withPairs) {
    if (pair === null) throw noPairs();
    least = Math.max(least, pair.before.length + pair.between.length + pair.after.length + 2);
  }
  if (Number.isInteger(maxLength) && maxLength >= least) return maxLength;
  throw new PeftError("MAX_LENGTH_INVALID", `expected a whole maxLength of at least ${least}, received ${maxLength}.`);
}
