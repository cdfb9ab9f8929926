import { scaleLinear, scaleLog } from "d3-scale";
import { element, FONT_SIZE, formatNumber, textElement, textWidth } from "./svg.ts";

/** Linear, or logarithmic for positive values. */
export type AxisScale = "linear" | "log";

export interface Tick {
  value: number;
  /** Empty for the minor ticks of a logarithmic axis. */
  label: string;
}

/** A direction of a chart: where values land in pixels, and which of them get a tick. */
export interface Axis {
  position(value: number): number;
  ticks: Tick[];
}

/** Beyond these sizes the scales' own arithmetic overflows. */
const LARGEST = 1e280;

/** Whether a value has a place on a scale: finite and of sane size, and positive for "log". */
export const fitsScale = (value: number, scale: AxisScale): boolean =>
  Math.abs(value) <= LARGEST && (scale === "linear" || value >= 1 / LARGEST);

/** Smallest interval that is worth drawing: values equal up to rounding get room on both sides. */
function padded([low, high]: [number, number], scale: AxisScale): [number, number] {
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (high - low > 1e-12 * size && size > 1 / LARGEST) return [low, high];
  if (scale === "log") return [low / 2, high * 2];
  const room = size > 1 / LARGEST ? size * 0.1 : 1;
  return [low - room, high + room];
}

/**
 * An axis over the given values with round ends and some `count` ticks.
 *
 * @param values values that {@link fitsScale} accepts. Empty gives [0, 1], or [1, 10].
 * @param nice whether the ends move out to the next round number.
 */
export function createAxis(
  values: readonly number[],
  scale: AxisScale,
  count: number,
  nice = true,
): (range: [number, number]) => Axis {
  let domain: [number, number] = scale === "log" ? [1, 10] : [0, 1];
  if (values.length > 0) {
    let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    domain = padded([low, high], scale);
  }
  return (range) => {
    const d3Scale = scale === "log" ? scaleLog(domain, range) : scaleLinear(domain, range);
    if (nice) d3Scale.nice();
    const d3Format = d3Scale.tickFormat(count);
    // Logarithmic ticks come as "200m"; an empty text marks those too close together for a label.
    const format = scale === "log" ? (value: number) => (d3Format(value) === "" ? "" : formatNumber(value)) : d3Format;
    return {
      position: (value) => d3Scale(value),
      ticks: d3Scale.ticks(count).map((value) => ({ value, label: format(value) })),
    };
  };
}

/** The rectangle the data are drawn in. */
export interface Frame {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** Room for the labels of a vertical axis. */
export const labelRoom = (ticks: readonly Tick[]): number =>
  Math.max(0, ...ticks.map((tick) => textWidth(tick.label))) + 8;

/** Horizontal grid lines with labels to the left, and the axis' own label turned by 90 degrees. */
export function drawVerticalAxis(axis: Axis, frame: Frame, label: string, labelX: number): string {
  const parts = axis.ticks.map(({ value, label: text }) => {
    const y = axis.position(value);
    const line = element("line", {
      x1: frame.left,
      x2: frame.right,
      y1: y,
      y2: y,
      stroke: "currentColor",
      "stroke-opacity": text === "" ? 0.06 : 0.15,
    });
    return (
      line + (text === "" ? "" : textElement(text, { x: frame.left - 6, y: y + FONT_SIZE / 3, "text-anchor": "end" }))
    );
  });
  const middle = (frame.top + frame.bottom) / 2;
  const turned = textElement(label, {
    x: labelX,
    y: middle,
    "text-anchor": "middle",
    transform: `rotate(-90 ${Math.round(labelX)} ${Math.round(middle)})`,
  });
  return parts.join("") + (label === "" ? "" : turned);
}

/** Base line with ticks and labels below, and the axis' own label under them. */
export function drawHorizontalAxis(axis: Axis, frame: Frame, label: string): string {
  const base = element("line", {
    x1: frame.left,
    x2: frame.right,
    y1: frame.bottom,
    y2: frame.bottom,
    stroke: "currentColor",
    "stroke-opacity": 0.6,
  });
  const ticks = axis.ticks.map(({ value, label: text }) => {
    const x = axis.position(value);
    const mark = {
      x1: x,
      x2: x,
      y1: frame.bottom,
      y2: frame.bottom + 4,
      stroke: "currentColor",
      "stroke-opacity": 0.6,
    };
    return element("line", mark) + textElement(text, { x, y: frame.bottom + 18, "text-anchor": "middle" });
  });
  const name = textElement(label, { x: (frame.left + frame.right) / 2, y: frame.bottom + 36, "text-anchor": "middle" });
  return base + ticks.join("") + (label === "" ? "" : name);
}
