import { writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { confusionMatrix, confusionMatrixChart, htmlReport, lineChart, type TrainingResult } from "@onnx-peft/core";
import type { Comparison, Row } from "./compare.ts";

export const columns = ["system", "test accuracy", "trainable parameters", "seconds", "peak memory", "file"] as const;

/** A row as people read it. */
export const cells = (row: Row): string[] => [
  row.system,
  `${(row.accuracy * 100).toFixed(1)} %`,
  row.trainableParameters.toLocaleString("en"),
  row.seconds.toFixed(1),
  row.peakMb === 0 ? "-" : `${Math.round(row.peakMb)} MB`,
  row.fileKb === 0 ? "-" : `${Math.round(row.fileKb).toLocaleString("en")} KB`,
];

/** The table as aligned text. */
export function textTable(rows: readonly Row[]): string {
  const lines = [[...columns], ...rows.map(cells)];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  return lines
    .map((line) =>
      line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("   "),
    )
    .join("\n");
}

/** Mean of each `size` losses, so that a curve shows the trend and not the batches. */
const smoothed = (losses: readonly number[], size: number): { x: number; y: number }[] => {
  const points: { x: number; y: number }[] = [];
  for (let i = 0; i + size <= losses.length; i += size) {
    points.push({ x: i + size, y: losses.slice(i, i + size).reduce((a, b) => a + b, 0) / size });
  }
  return points;
};

/** One self-contained page: the table, the curves and the confusion matrix. */
export function quickstartReport({ rows, tuned, truth, predicted }: Comparison, labels: readonly string[]): string {
  const training: TrainingResult = tuned.training;
  const short = labels.map((name) => name.replace(/^noun\./, ""));
  const accuracy = training.evaluations.map(({ step, metrics }) => ({ x: step, y: metrics.accuracy ?? Number.NaN }));
  return htmlReport({
    title: "WordNet definitions to noun categories",
    summary: `${labels.length} categories. Validation chooses the checkpoint and the baselines' penalty; the test split is used once per system.`,
    sections: [
      { heading: "Result", table: { columns: [...columns], rows: rows.map(cells) } },
      {
        heading: "Training",
        text: `${training.steps} steps, padding ${(training.paddingShare * 100).toFixed(1)} % of all tokens that were run.`,
        svg: [
          lineChart([{ name: "training loss", points: smoothed(training.losses, 10) }], {
            title: "Loss",
            xLabel: "step",
            yLabel: "cross-entropy",
          }),
          lineChart([{ name: "validation accuracy", points: accuracy }], {
            title: "Accuracy",
            xLabel: "step",
            yLabel: "share right",
          }),
        ],
      },
      {
        heading: "Confusion matrix of LoRA, test split",
        svg: confusionMatrixChart(confusionMatrix(predicted, truth, labels.length), short),
      },
    ],
  });
}

/** Keeps a run for the README: the mean table, and the accuracies of every seed. */
export async function recordResult(
  mean: readonly Row[],
  seeds: readonly (readonly Row[])[],
  path: string,
  command: string,
): Promise<void> {
  const perSeed = (i: number): string =>
    seeds.map((rows) => ((rows[i]?.accuracy ?? Number.NaN) * 100).toFixed(1)).join(", ");
  const record = {
    title: "WordNet definitions to 25 noun categories",
    command,
    machine: `${cpus()[0]?.model ?? "unknown processor"}, ${cpus().length} cores`,
    table: { columns: [...columns, "each seed, %"], rows: mean.map((row, i) => [...cells(row), perSeed(i)]) },
    note: `Means of ${seeds.length} seeds: 1,000 training, 1,000 validation and 8,000 test definitions; pre-training saw neither of the last two.`,
    seeds,
  };
  await writeFile(path, `${JSON.stringify(record, null, 2)}\n`);
}
