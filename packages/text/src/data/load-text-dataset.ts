import { columnReader } from "./columns.ts";
import { withDefaults } from "./limits.ts";
import { convertRows } from "./raw-row.ts";
import { openSource, type SourceOptions } from "./stream-dataset.ts";

/** A text, a pair or a triplet, with a label where one was asked for. */
export interface TextRow<Label = string> {
  readonly text: string;
  readonly textPair?: string;
  readonly textNegative?: string;
  readonly label: Label;
}

/** Type of `label` by `labelKind`. */
export interface LabelKinds {
  /** One class. */
  class: string;
  /** Any number of classes, from a list or from a text with separators. */
  multi: readonly string[];
  /** A number, for regression and similarities. */
  number: number;
  /** None. */
  none: undefined;
}

/** Which column holds what. */
export interface TextColumns {
  /** Default "text". */
  text?: string;
  /** Second text of a pair; the positive of a triplet. */
  textPair?: string;
  /** Third text of a triplet. */
  textNegative?: string;
  /** Default "label". */
  label?: string;
}

export interface TextDatasetOptions<Kind extends keyof LabelKinds> extends SourceOptions {
  columns?: TextColumns;
  /** Default "class". */
  labelKind?: Kind;
  /** Between the labels of a "multi" text. Default ",". */
  labelSeparator?: string;
  /** Reads no more rows than this. */
  limit?: number;
}

/**
 * Streams the rows of a data file: JSON Lines, CSV, TSV, Parquet, or a folder of texts per label. Memory does not grow with
 * the file.
 *
 * @param path file, or folder with a folder per label.
 * @throws PeftError DATA_NOT_FOUND, DATA_FORMAT_UNKNOWN; DATA_INVALID with file and line (Parquet: row) of every bad row among
 *   the first and the thousand after it.
 * @example
 * for await (const { text, label } of streamTextDataset("reviews.csv", { columns: { text: "review", label: "stars" } })) use(text, label);
 */
export async function* streamTextDataset<Kind extends keyof LabelKinds = "class">(
  path: string,
  options: TextDatasetOptions<Kind> = {},
): AsyncGenerator<TextRow<LabelKinds[Kind]>> {
  const { columns = {}, labelKind = "class" as Kind, labelSeparator = ",", limit = Number.POSITIVE_INFINITY } = options;
  const { text = "text", textPair, textNegative, label = "label" } = columns;
  const limits = withDefaults(options.limits);
  const wanted = [text, textPair, textNegative, labelKind === "none" ? undefined : label].filter(
    (name) => name !== undefined,
  );
  const source = await openSource(path, wanted, options, limits);
  if (limit <= 0) return;

  let count = 0;
  for await (const row of convertRows(
    path,
    source,
    (values, report): TextRow<LabelKinds[Kind]> => {
      const read = columnReader(values, report);
      const labelOf = {
        class: () => read.className(label),
        multi: () => read.classNames(label, labelSeparator),
        number: () => read.number(label),
        none: () => undefined,
      };
      return {
        text: read.text(text),
        ...(textPair === undefined ? {} : { textPair: read.text(textPair) }),
        ...(textNegative === undefined ? {} : { textNegative: read.text(textNegative) }),
        label: labelOf[labelKind]() as LabelKinds[Kind],
      };
    },
    limits,
  )) {
    yield row;
    if (++count >= limit) return;
  }
}

/**
 * Reads all rows of a data file; see {@link streamTextDataset}.
 *
 * @example
 * const rows = await loadTextDataset("sts.tsv", { columns: { text: "a", textPair: "b", label: "score" }, labelKind: "number" });
 */
export async function loadTextDataset<Kind extends keyof LabelKinds = "class">(
  path: string,
  options: TextDatasetOptions<Kind> = {},
): Promise<TextRow<LabelKinds[Kind]>[]> {
  const rows: TextRow<LabelKinds[Kind]>[] = [];
  for await (const row of streamTextDataset(path, options)) rows.push(row);
  return rows;
}
