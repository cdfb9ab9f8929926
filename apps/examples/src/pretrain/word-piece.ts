/** Special tokens of BERT, in the order of their ids. */
export const specialTokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] as const;

/** What BERT's normaliser and pre-tokeniser make of a text: lower case, no accents, punctuation apart. */
export function splitWords(text: string): string[] {
  const plain = text
    .normalize("NFD")
    .replace(/\p{Mn}/gu, "")
    .toLowerCase();
  return plain.match(/[\p{P}\p{S}]|[^\s\p{P}\p{S}]+/gu) ?? [];
}

interface Word {
  pieces: string[];
  readonly count: number;
}

const pairKey = (a: string, b: string): string => `${a}\t${b}`;
const joined = (a: string, b: string): string => a + b.slice(2); // the right piece starts with "##"

/**
 * Learns a WordPiece vocabulary: starts from characters and repeatedly joins the most frequent neighbouring pair
 * (Sennrich et al. 2016, arXiv 1508.07909), as the `tokenizers` library's trainer does. Ties go to the pair that sorts
 * first, so the result depends on the texts alone.
 * @param size number of entries wanted, special tokens included.
 * @param minCount characters rarer than this become [UNK].
 * @returns tokens in the order of their ids.
 */
export function trainWordPiece(texts: Iterable<string>, size: number, minCount = 20): string[] {
  const counts = new Map<string, number>();
  for (const text of texts) for (const word of splitWords(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  const characters = new Map<string, number>();
  for (const [word, count] of counts) {
    [...word].forEach((c, i) => {
      const piece = i === 0 ? c : `##${c}`;
      characters.set(piece, (characters.get(piece) ?? 0) + count);
    });
  }
  const alphabet = [...characters]
    .filter(([, n]) => n >= minCount)
    .map(([piece]) => piece)
    .sort();
  const vocabulary: string[] = [...specialTokens, ...alphabet];
  const words: Word[] = [];
  for (const [word, count] of counts) {
    const pieces = [...word].map((c, i) => (i === 0 ? c : `##${c}`));
    if (pieces.every((p) => (characters.get(p) ?? 0) >= minCount)) words.push({ pieces, count });
  }
  const pairs = new Map<string, { count: number; words: Set<Word> }>();
  const change = (word: Word, sign: 1 | -1): void => {
    for (let i = 0; i + 1 < word.pieces.length; i++) {
      const key = pairKey(word.pieces[i] ?? "", word.pieces[i + 1] ?? "");
      const entry = pairs.get(key) ?? { count: 0, words: new Set() };
      entry.count += sign * word.count;
      if (sign === 1) entry.words.add(word);
      pairs.set(key, entry);
    }
  };
  for (const word of words) change(word, 1);
  const seen = new Set(vocabulary);
  while (vocabulary.length < size) {
    let best: [string, number] | null = null;
    for (const [key, { count }] of pairs) {
      if (!best || count > best[1] || (count === best[1] && key < best[0])) best = [key, count];
    }
    if (!best || best[1] < 2) break;
    const [a = "", b = ""] = best[0].split("\t");
    const merged = joined(a, b);
    for (const word of [...(pairs.get(best[0])?.words ?? [])]) {
      change(word, -1);
      const next: string[] = [];
      for (let i = 0; i < word.pieces.length; i++) {
        const piece = word.pieces[i] ?? "";
        if (piece === a && word.pieces[i + 1] === b) {
          next.push(merged);
          i++;
        } else next.push(piece);
      }
      word.pieces = next;
      change(word, 1);
    }
    pairs.delete(best[0]);
    if (!seen.has(merged)) {
      seen.add(merged);
      vocabulary.push(merged);
    }
  }
  return vocabulary;
}

/** A `tokenizer.json` and `tokenizer_config.json` of BERT's kind around a vocabulary. */
export function tokenizerFiles(
  vocabulary: readonly string[],
  maxLength: number,
): Record<"tokenizer.json" | "tokenizer_config.json", unknown> {
  const id = (token: string): number => vocabulary.indexOf(token);
  const special = (token: string): object => ({
    id: id(token),
    content: token,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const one = (token: string, type: number): object => ({ SpecialToken: { id: token, type_id: type } });
  const sequence = (name: string, type: number): object => ({ Sequence: { id: name, type_id: type } });
  return {
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: specialTokens.map(special),
      normalizer: {
        type: "BertNormalizer",
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase: true,
      },
      pre_tokenizer: { type: "BertPreTokenizer" },
      post_processor: {
        type: "TemplateProcessing",
        single: [one("[CLS]", 0), sequence("A", 0), one("[SEP]", 0)],
        pair: [one("[CLS]", 0), sequence("A", 0), one("[SEP]", 0), sequence("B", 1), one("[SEP]", 1)],
        special_tokens: Object.fromEntries(["[CLS]", "[SEP]"].map((t) => [t, { id: t, ids: [id(t)], tokens: [t] }])),
      },
      decoder: { type: "WordPiece", prefix: "##", cleanup: true },
      model: {
        type: "WordPiece",
        unk_token: "[UNK]",
        continuing_subword_prefix: "##",
        max_input_chars_per_word: 100,
        vocab: Object.fromEntries(vocabulary.map((token, i) => [token, i])),
      },
    },
    "tokenizer_config.json": {
      tokenizer_class: "BertTokenizer",
      do_lower_case: true,
      model_max_length: maxLength,
      pad_token: "[PAD]",
      unk_token: "[UNK]",
      cls_token: "[CLS]",
      sep_token: "[SEP]",
      mask_token: "[MASK]",
    },
  };
}
