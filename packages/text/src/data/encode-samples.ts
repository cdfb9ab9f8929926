import type { PreTrainedTokenizer } from "@huggingface/transformers";
import { PeftError } from "@onnx-peft/core";
import type { EmbeddingSample } from "../tasks/sentence-embedding.ts";
import type { ClassificationSample } from "../tasks/sequence-classification.ts";
import type { EncodeOptions } from "./encode-options.ts";
import { type LabelMap, labelId, multiHot } from "./label-map.ts";
import type { TextRow } from "./load-text-dataset.ts";
import { encodeRows } from "./tokenize.ts";

/**
 * Rows of a data set as samples for {@link sequenceClassification}: tokenised, a class as its id, a list of classes as zeros and
 * ones, a number as it is.
 * @param map ids of the classes; null for numbers.
 * @throws PeftError LABEL_UNKNOWN, LABELS_MISSING for classes without a map, and those of `encodeRows`
 * @example
 * const rows = await loadTextDataset("reviews.csv");
 * const map = buildLabelMap(rows.map((row) => row.label));
 * const samples = await encodeClassification(tokenizer, rows, map);
 */
export async function encodeClassification(
  tokenizer: PreTrainedTokenizer,
  rows: readonly TextRow<string | number | readonly string[]>[],
  map: LabelMap | null,
  options: EncodeOptions = {},
): Promise<ClassificationSample[]> {
  const idOf = (label: string | number | readonly string[]): number | readonly number[] => {
    if (typeof label === "number") return label;
    if (map === null) throw new PeftError("LABELS_MISSING", `Expected a label map for ${JSON.stringify(label)}.`);
    return typeof label === "string" ? labelId(map, label) : multiHot(map, label);
  };
  const labels = rows.map(({ label }) => idOf(label)); // first: wrong labels show before the work
  const texts = await encodeRows(tokenizer, rows, options);
  return texts.map((text, i) => ({ ...text, label: labels[i] ?? 0 }));
}

/**
 * Rows of a data set as samples for {@link sentenceEmbedding}: each text of a pair or triplet tokenised by itself, a number
 * as the pair's similarity.
 * @param rows with `textPair`, and `textNegative` for triplets.
 * @throws PeftError DATA_INVALID for a row without a second text, and those of `encodeRows`
 * @example
 * const rows = await loadTextDataset("pairs.tsv", { columns: { text: "question", textPair: "answer" }, labelKind: "none" });
 * const samples = await encodeEmbedding(tokenizer, rows);
 */
export async function encodeEmbedding(
  tokenizer: PreTrainedTokenizer,
  rows: readonly TextRow<number | undefined>[],
  options: EncodeOptions = {},
): Promise<EmbeddingSample[]> {
  const groups = rows.map(({ text, textPair, textNegative }, i) => {
    if (textPair !== undefined) return textNegative === undefined ? [text, textPair] : [text, textPair, textNegative];
    throw new PeftError("DATA_INVALID", `Expected a textPair in row ${i}, received one text.`, {
      hint: "Name its column: columns: { text, textPair }.",
    });
  });
  const encoded = await encodeRows(
    tokenizer,
    groups.flat().map((text) => ({ text })),
    options,
  );
  let next = 0;
  return groups.map((group, i) => {
    const texts = encoded.slice(next, next + group.length);
    next += group.length;
    const similarity = rows[i]?.label;
    return similarity === undefined ? { texts } : { texts, similarity };
  });
}
