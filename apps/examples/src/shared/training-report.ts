import { htmlReport, lineChart, type TrainingResult } from "@onnx-peft/core";

/** One system and its metrics, shares between 0 and 1. */
export type SystemResult = { readonly system: string } & Readonly<Record<string, number | string>>;

const columnsOf = (results: readonly SystemResult[]): string[] => [
  ...new Set(results.flatMap((row) => Object.keys(row))),
];

const cell = (value: number | string | undefined): string =>
  typeof value === "number" ? `${(value * 100).toFixed(1)} %` : (value ?? "-");

/** Systems and metrics as aligned text. */
export function resultTable(results: readonly SystemResult[]): string {
  const columns = columnsOf(results);
  const lines = [columns, ...results.map((row) => columns.map((name) => cell(row[name])))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const pad = (text: string, i: number): string =>
    i === 0 ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0);
  return lines.map((line) => line.map(pad).join("   ")).join("\n");
}

/** Losses averaged over some steps, so that a curve shows the trend and not the batches. */
function smoothed(losses: readonly number[], points = 50): { x: number; y: number }[] {
  const size = Math.max(1, Math.floor(losses.length / points));
  return Array.from({ length: Math.floor(losses.length / size) }, (_, i) => {
    const part = losses.slice(i * size, (i + 1) * size);
    return { x: (i + 1) * size, y: part.reduce((a, b) => a + b, 0) / size };
  });
}

/** One self-contained page: the table and the curves of a training run. */
export function trainingReport(
  title: string,
  results: readonly SystemResult[],
  training: TrainingResult,
  metric: string,
): string {
  const columns = columnsOf(results);
  const evaluated = training.evaluations.map(({ step, metrics }) => ({ x: step, y: metrics[metric] ?? Number.NaN }));
  const megabytes = Math.round(training.peakRssBytes / 2 ** 20);
  return htmlReport({
    title,
    summary: `${training.steps} steps in ${(training.elapsedMs / 1000).toFixed(0)} s, ${megabytes} MB at most. The test split was used once per system.`,
    sections: [
      { heading: "Test split", table: { columns, rows: results.map((row) => columns.map((name) => cell(row[name]))) } },
      {
        heading: "Training",
        svg: [
          lineChart([{ name: "training loss", points: smoothed(training.losses) }], {
            title: "Loss",
            xLabel: "step",
            yLabel: "loss",
          }),
          lineChart([{ name: `validation ${metric}`, points: evaluated }], {
            title: metric,
            xLabel: "step",
            yLabel: metric,
          }),
        ],
      },
    ],
  });
}
