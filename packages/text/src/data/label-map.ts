import { PeftError } from "@onnx-peft/core";

/** Classes and their ids, as `config.json` has them. */
export interface LabelMap {
  /** Names in the order of their ids. */
  readonly labels: readonly string[];
  readonly id2label: Readonly<Record<string, string>>;
  readonly label2id: Readonly<Record<string, number>>;
}

const isWholeNumber = (label: string): boolean => /^(0|-?[1-9]\d{0,14})$/.test(label);

/**
 * Numbers the classes that occur. The order is that of code units, whatever the order of the rows, or that of the numbers when all labels
 * are whole numbers; so the same data give the same ids.
 *
 * @param labels a class, or a list of classes, per row.
 * @throws PeftError LABELS_MISSING when there is none.
 * @example
 * buildLabelMap(["spam", "ham", "spam"]).label2id; // { ham: 0, spam: 1 }
 */
export function buildLabelMap(labels: Iterable<string | readonly string[]>): LabelMap {
  const seen = new Set<string>();
  for (const label of labels) {
    if (typeof label === "string") seen.add(label);
    else for (const one of label) seen.add(one);
  }
  if (seen.size === 0) throw new PeftError("LABELS_MISSING", "expected at least one label, received none.");
  const names = [...seen];
  if (names.every(isWholeNumber)) names.sort((a, b) => Number(a) - Number(b));
  else names.sort();
  return {
    labels: names,
    id2label: Object.fromEntries(names.map((name, id) => [String(id), name])),
    label2id: Object.fromEntries(names.map((name, id) => [name, id])),
  };
}

/**
 * Id of a class.
 *
 * @throws PeftError LABEL_UNKNOWN for a class that the map lacks: one that occurs in the test data only, say.
 */
export function labelId({ labels, label2id }: LabelMap, label: string): number {
  const id = Object.hasOwn(label2id, label) ? label2id[label] : undefined;
  if (id !== undefined) return id;
  const known = labels
    .slice(0, 10)
    .map((name) => JSON.stringify(name))
    .join(", ");
  throw new PeftError(
    "LABEL_UNKNOWN",
    `expected one of ${known}${labels.length > 10 ? ", ..." : ""}, received ${JSON.stringify(label)}.`,
    {
      hint: "Build the label map over all splits.",
    },
  );
}

/**
 * 1 for each class of a row, 0 for the others, [labels].
 *
 * @throws PeftError LABEL_UNKNOWN.
 * @example
 * multiHot(buildLabelMap(["a", "b", "c"]), ["c", "a"]); // [1, 0, 1]
 */
export function multiHot(map: LabelMap, classes: readonly string[]): number[] {
  const target = new Array<number>(map.labels.length).fill(0);
  for (const label of classes) target[labelId(map, label)] = 1;
  return target;
}
