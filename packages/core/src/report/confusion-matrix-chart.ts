import { PeftError } from "../errors.ts";
import {
  element,
  escapeMarkup,
  FONT_SIZE,
  fitText,
  formatNumber,
  paletteColor,
  svgDocument,
  textElement,
  textWidth,
} from "./svg.ts";

export interface ConfusionMatrixOptions {
  title?: string;
}

/** Beyond this many classes counts would not fit their cells; they stay readable as tooltips. */
const MAX_CLASSES_WITH_COUNTS = 30;

function checkSquare(matrix: readonly (readonly number[])[], labels: readonly string[]): void {
  const row = matrix.findIndex((counts) => counts.length !== labels.length);
  if (matrix.length === labels.length && row < 0 && labels.length > 0) return;
  const received = row < 0 ? `${matrix.length} rows` : `${matrix[row]?.length} columns in row ${row}`;
  throw new PeftError(
    "CONFUSION_MATRIX_SHAPE",
    `expected ${labels.length} x ${labels.length} counts for the labels, received ${received}.`,
  );
}

/**
 * A confusion matrix as static SVG: one row per true class, one column per predicted class, shaded by the share of the row, so
 * that rare classes are as readable as frequent ones.
 *
 * @param matrix counts, `matrix[truth][prediction]`.
 * @throws PeftError CONFUSION_MATRIX_SHAPE.
 * @example
 * confusionMatrixChart([[48, 2], [5, 45]], ["ham", "spam"], { title: "Test split" });
 */
export function confusionMatrixChart(
  matrix: readonly (readonly number[])[],
  labels: readonly string[],
  { title = "" }: ConfusionMatrixOptions = {},
): string {
  checkSquare(matrix, labels);
  const size = labels.length;
  const withCounts = size <= MAX_CLASSES_WITH_COUNTS;
  const widestCount = Math.max(...matrix.flat().map((count) => textWidth(formatNumber(count))));
  const cell = withCounts ? Math.max(size <= 10 ? 44 : 26, widestCount + 8) : Math.max(6, 900 / size);
  const labelWidth = Math.min(160, Math.max(...labels.map(textWidth)));
  const left = labelWidth + 34;
  const top = (title === "" ? 8 : 32) + labelWidth * 0.75 + 40;

  const shades: string[] = [];
  const numbers: string[] = [];
  for (const [truth, counts] of matrix.entries()) {
    const total = counts.reduce((sum, count) => sum + count, 0);
    for (const [prediction, count] of counts.entries()) {
      if (count === 0) continue; // empty cells stay empty: most of a large matrix
      const share = count / total;
      const [x, y] = [left + prediction * cell, top + truth * cell];
      const tooltip = `${labels[truth]} taken for ${labels[prediction]}: ${formatNumber(count)} (${(100 * share).toFixed(1)} %)`;
      const area = { x, y, width: cell, height: cell, "fill-opacity": share };
      shades.push(element("rect", area, element("title", {}, escapeMarkup(tooltip))));
      // White reads better than black only on nearly full blue.
      const text = { x: x + cell / 2, y: y + cell / 2 + FONT_SIZE / 3, fill: share > 0.85 ? "#fff" : "currentColor" };
      if (withCounts) numbers.push(element("text", text, escapeMarkup(formatNumber(count))));
    }
  }
  const edges = labels.flatMap((_, i) => {
    const [x, y] = [(left + (i + 1) * cell).toFixed(1), (top + (i + 1) * cell).toFixed(1)];
    return [
      `M${left.toFixed(1)},${y}h${(size * cell).toFixed(1)}`,
      `M${x},${top.toFixed(1)}v${(size * cell).toFixed(1)}`,
    ];
  });
  const frame = { x: left, y: top, width: size * cell, height: size * cell, fill: "none" };
  const cells =
    element("g", { fill: paletteColor(0) }, shades.join("")) +
    element("g", { "text-anchor": "middle", "pointer-events": "none" }, numbers.join("")) +
    element(
      "g",
      { stroke: "currentColor", "stroke-opacity": 0.15 },
      element("rect", frame) + element("path", { d: edges.join("") }),
    );
  const names = labels.map((label, i) => {
    const centre = i * cell + cell / 2;
    const text = fitText(label, labelWidth);
    const [x, y] = [left + centre + 4, top - 8];
    return (
      textElement(text, { x: left - 8, y: top + centre + FONT_SIZE / 3, "text-anchor": "end" }) +
      textElement(text, { x, y, transform: `rotate(-45 ${x.toFixed(1)} ${y.toFixed(1)})` })
    );
  });
  const width = left + size * cell + labelWidth * 0.75 + 16;
  const middle = top + (size * cell) / 2;
  const captions =
    textElement("true class", {
      x: 14,
      y: middle,
      "text-anchor": "middle",
      transform: `rotate(-90 14 ${middle.toFixed(1)})`,
    }) +
    textElement("predicted class", { x: left + (size * cell) / 2, y: top + size * cell + 22, "text-anchor": "middle" });
  const heading = title === "" ? "" : textElement(fitText(title, width - 24), { x: 12, y: 20, "font-weight": 600 });
  return svgDocument(
    width,
    top + size * cell + 34,
    title || "confusion matrix",
    heading + captions + names.join("") + cells,
  );
}
