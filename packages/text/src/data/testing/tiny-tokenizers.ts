import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const letters = [..."abcdefghijklmnopqrstuvwxyz"];
const special = (content: string, id: number) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});
const ids = (tokens: readonly string[]) => Object.fromEntries(tokens.map((token, id) => [token, id]));
const empty = { version: "1.0", truncation: null, padding: null };

/** BERT: WordPiece with lower case; words of known pieces, else letters. */
function bert() {
  const tokens = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    ...letters,
    ...letters.map((c) => `##${c}`),
    "dog",
    "cat",
    "the",
    "sat",
    "##s",
    ",",
    ".",
  ];
  const vocab = ids([...new Set(tokens)]);
  const token = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
  const sequence = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
  return {
    tokenizer: {
      ...empty,
      added_tokens: tokens.slice(0, 5).map(special),
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
        single: [token("[CLS]", 0), sequence("A", 0), token("[SEP]", 0)],
        pair: [token("[CLS]", 0), sequence("A", 0), token("[SEP]", 0), sequence("B", 1), token("[SEP]", 1)],
        special_tokens: {
          "[CLS]": { id: "[CLS]", ids: [2], tokens: ["[CLS]"] },
          "[SEP]": { id: "[SEP]", ids: [3], tokens: ["[SEP]"] },
        },
      },
      decoder: { type: "WordPiece", prefix: "##", cleanup: true },
      model: {
        type: "WordPiece",
        unk_token: "[UNK]",
        continuing_subword_prefix: "##",
        max_input_chars_per_word: 100,
        vocab,
      },
    },
    config: {
      tokenizer_class: "BertTokenizer",
      do_lower_case: true,
      model_max_length: 64,
      unk_token: "[UNK]",
      cls_token: "[CLS]",
      sep_token: "[SEP]",
      pad_token: "[PAD]",
      mask_token: "[MASK]",
    },
  };
}

/** RoBERTa: byte-level BPE, where a word after a space is another token than one at the start. */
function roberta() {
  const merges = [
    ["d", "o"],
    ["do", "g"],
    ["Ġ", "d"],
    ["Ġd", "o"],
    ["Ġdo", "g"],
    ["a", "t"],
    ["c", "at"],
    ["Ġ", "c"],
    ["Ġc", "at"],
  ] as const;
  const start = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];
  const vocab = ids([...start, ...letters, "Ġ", ",", ".", ...merges.map((pair) => pair.join(""))]);
  return {
    tokenizer: {
      ...empty,
      added_tokens: start.map(special),
      normalizer: null,
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
      post_processor: {
        type: "RobertaProcessing",
        sep: ["</s>", 2],
        cls: ["<s>", 0],
        trim_offsets: true,
        add_prefix_space: false,
      },
      decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: "",
        end_of_word_suffix: "",
        fuse_unk: false,
        byte_fallback: false,
        vocab,
        merges,
      },
    },
    config: {
      tokenizer_class: "RobertaTokenizer",
      model_max_length: 1e30,
      bos_token: "<s>",
      eos_token: "</s>",
      unk_token: "<unk>",
      cls_token: "<s>",
      sep_token: "</s>",
      pad_token: "<pad>",
      mask_token: "<mask>",
    },
  };
}

/** XLM-R: SentencePiece unigrams with "▁" for the space before each word. */
function xlmRoberta() {
  const start = ["<s>", "<pad>", "</s>", "<unk>"];
  const pieces = ["▁", ...letters, ",", "."].map((piece): [string, number] => [piece, -8]);
  const words = ["▁dog", "dog", "▁cat", "s", "▁the"].map((piece, i): [string, number] => [piece, -3 - i / 10]);
  const vocab = [...start.map((token): [string, number] => [token, 0]), ...pieces.filter(([p]) => p !== "s"), ...words];
  const token = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const sequence = (id: string) => ({ Sequence: { id, type_id: 0 } });
  return {
    tokenizer: {
      ...empty,
      added_tokens: start.map(special),
      normalizer: null,
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          { type: "WhitespaceSplit" },
          { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
        ],
      },
      post_processor: {
        type: "TemplateProcessing",
        single: [token("<s>"), sequence("A"), token("</s>")],
        pair: [token("<s>"), sequence("A"), token("</s>"), token("</s>"), sequence("B"), token("</s>")],
        special_tokens: {
          "<s>": { id: "<s>", ids: [0], tokens: ["<s>"] },
          "</s>": { id: "</s>", ids: [2], tokens: ["</s>"] },
        },
      },
      decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
      model: { type: "Unigram", unk_id: 3, vocab, byte_fallback: false },
    },
    config: {
      tokenizer_class: "XLMRobertaTokenizer",
      model_max_length: 32,
      bos_token: "<s>",
      eos_token: "</s>",
      unk_token: "<unk>",
      cls_token: "<s>",
      sep_token: "</s>",
      pad_token: "<pad>",
    },
  };
}

export const tinyTokenizers = { bert, roberta, xlmRoberta };

/** Writes the files of a tiny tokenizer and returns their folder. */
export function writeTinyTokenizer(kind: keyof typeof tinyTokenizers, parent: string): string {
  const folder = join(parent, kind);
  mkdirSync(folder, { recursive: true });
  const { tokenizer, config } = tinyTokenizers[kind]();
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(config));
  return folder;
}
