import { type ScatterPoint, scatterChart } from "@onnx-peft/core";
import { BASELINE, byAccuracy, type ComparisonRow, cells, columns } from "./comparison-rows.ts";

/** What methods.json holds. */
export interface Comparison {
  readonly command: string;
  readonly machine: string;
  readonly sizes: { readonly train: number; readonly validation: number; readonly test: number };
  readonly epochs: number;
  readonly seeds: readonly number[];
  readonly rows: readonly ComparisonRow[];
  /** Entries that were not trained yet. */
  readonly missing: readonly string[];
}

const line = (values: readonly string[]): string => `| ${values.join(" | ")} |`;

/** The comparison as Markdown: what was run, and a line per entry, best first. */
export function comparisonPage(comparison: Comparison): string {
  const { sizes, seeds, epochs, rows, missing, command, machine } = comparison;
  const marked = rows.filter(({ mark }) => mark !== null).map(({ name }) => name);
  return [
    "# Methods side by side",
    "",
    `${rows.length} systems on one task: WordNet definitions to 25 noun categories, ${sizes.train.toLocaleString("en-US")} definitions to train on, ${epochs} epochs,`,
    `${sizes.test.toLocaleString("en-US")} to test; the embedded backbone (4 layers of 256), adapters at query and value where the method leaves the choice. All`,
    "start from the same classifier, the logistic regression on the frozen encoder's mean states, and train it along at the same rate; it is not",
    `counted. The learning rate of each is the best on ${sizes.validation.toLocaleString("en-US")} validation definitions, found by one search for all (decades, then a half decade);`,
    `the test split is used with that rate alone, with ${seeds.length} seeds (other training data, other start values). Settings come near to the`,
    "trained values of LoRA r 8 where a method can.",
    "",
    "![Accuracy against trained values](methods.svg)",
    "",
    line(columns),
    line(columns.map((_, i) => (i < 2 ? "---" : "--:"))),
    ...byAccuracy(rows).map((row) => line(cells(row))),
    "",
    "Step: time of a training step beside one of LoRA, measured alternately. Peak memory: of the process that trains. Merge error: largest",
    "difference of a logit after the adapter was written into the weights, over the largest logit.",
    marked.length === 0
      ? "No entry diverged or fell below the frozen encoder."
      : `Marked entries diverged or fell below the frozen encoder: ${marked.join(", ")}.`,
    ...(missing.length === 0 ? [] : [`Not trained yet: ${missing.join(", ")}.`]),
    "",
    `From \`${command}\`, ${machine}: [methods.json](methods.json), every single run in [method-runs.jsonl](method-runs.jsonl).`,
    "",
  ].join("\n");
}

/** Accuracy against trained values; the bars span the seeds. */
export function comparisonChart({ rows }: Comparison, groupOf: (name: string) => string): string {
  const points = rows.flatMap(({ name, parameters, accuracy, accuracies }): ScatterPoint[] =>
    accuracy === null || parameters === 0
      ? []
      : [
          {
            ...{ name, x: parameters, y: 100 * accuracy, group: groupOf(name) },
            range: [100 * Math.min(...accuracies), 100 * Math.max(...accuracies)],
          },
        ],
  );
  const baseline = rows.find(({ name }) => name === BASELINE);
  return scatterChart(points, {
    ...{ title: "Accuracy against trained values", xLabel: "trained values", yLabel: "test accuracy, %" },
    ...{ xScale: "log", width: 1000, height: 700 },
    references: baseline?.accuracy == null ? [] : [{ name: BASELINE, y: 100 * baseline.accuracy }],
  });
}
