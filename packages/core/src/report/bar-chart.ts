import { createAxis, drawHorizontalAxis, fitsScale } from "./axes.ts";
import { element, FONT_SIZE, fitText, formatNumber, paletteColor, svgDocument, textElement, textWidth } from "./svg.ts";

/** One bar. */
export interface Bar {
  label: string;
  value: number;
  /** Half length of a whisker, for example a standard deviation over seeds. */
  error?: number;
  /** Draws the bar in the second colour. */
  highlight?: boolean;
}

export interface BarChartOptions {
  title?: string;
  /** What the values are, with their unit. */
  valueLabel?: string;
  /** Pixels, default 640; the height follows from the number of bars. */
  width?: number;
  /** How values are written; default four significant digits. */
  format?: (value: number) => string;
}

/** Height of a bar with its gap. */
const ROW = 26;

/**
 * Horizontal bars from zero, each with its label and value, as static SVG. A value that is not finite is written, not drawn.
 *
 * @example
 * barChart([{ label: "frozen", value: 0.52 }, { label: "LoRA", value: 0.64, error: 0.01, highlight: true }], { valueLabel: "accuracy" });
 */
export function barChart(bars: readonly Bar[], options: BarChartOptions = {}): string {
  const { title = "", valueLabel = "", width = 640, format = formatNumber } = options;
  const valueText = ({ value, error }: Bar) => format(value) + (error === undefined ? "" : ` ± ${format(error)}`);
  const longest = (texts: string[]) => Math.max(0, ...texts.map(textWidth));
  const left = Math.min(longest(bars.map((bar) => bar.label)), width * 0.4) + 20;
  const right = width - longest(bars.map(valueText)) - 24;
  const top = title === "" ? 8 : 34;
  const bottom = top + Math.max(1, bars.length) * ROW;

  const ends = bars
    .flatMap(({ value, error = 0 }) => [value - error, value + error])
    .filter((end) => fitsScale(end, "linear"));
  const axis = createAxis([0, ...ends], "linear", 6)([left, right]);
  const zero = axis.position(0);
  const rows = bars.map((bar, i) => {
    const middle = top + i * ROW + ROW / 2;
    const baseline = middle + FONT_SIZE / 3;
    const label = textElement(fitText(bar.label, left - 20), { x: left - 8, y: baseline, "text-anchor": "end" });
    if (!fitsScale(bar.value, "linear")) return label + textElement(valueText(bar), { x: zero + 8, y: baseline });
    const end = axis.position(bar.value);
    const rect = element("rect", {
      x: Math.min(zero, end),
      y: middle - 9,
      width: Math.abs(end - zero),
      height: 18,
      fill: paletteColor(bar.highlight ? 1 : 0),
      "fill-opacity": 0.85,
    });
    let textX = Math.max(zero, end);
    let whisker = "";
    if (bar.error !== undefined && fitsScale(bar.value + Math.abs(bar.error), "linear")) {
      const [low, high] = [axis.position(bar.value - bar.error), axis.position(bar.value + bar.error)];
      whisker = element("path", {
        d: `M${low.toFixed(1)},${middle}H${high.toFixed(1)}`,
        stroke: "currentColor",
        "stroke-width": 1.5,
      });
      textX = Math.max(textX, high);
    }
    return label + rect + whisker + textElement(valueText(bar), { x: textX + 8, y: baseline });
  });
  const heading = title === "" ? "" : textElement(fitText(title, width - 24), { x: 12, y: 20, "font-weight": 600 });
  const frame = { left, right, top, bottom };
  const height = bottom + (valueLabel === "" ? 28 : 46);
  return svgDocument(
    width,
    height,
    title || valueLabel,
    heading + rows.join("") + drawHorizontalAxis(axis, frame, valueLabel),
  );
}
