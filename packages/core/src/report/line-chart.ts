import {
  type Axis,
  type AxisScale,
  createAxis,
  drawHorizontalAxis,
  drawVerticalAxis,
  fitsScale,
  labelRoom,
} from "./axes.ts";
import { element, fitText, paletteColor, svgDocument, textElement, textWidth } from "./svg.ts";

/** One line of a chart. */
export interface LineSeries {
  name: string;
  /** In drawing order. A value that cannot be drawn (NaN, infinite, not positive on a log scale) interrupts the line. */
  points: readonly { x: number; y: number }[];
  /** For reference lines. */
  dashed?: boolean;
}

export interface LineChartOptions {
  title?: string;
  xLabel?: string;
  yLabel?: string;
  /** Default "linear". */
  xScale?: AxisScale;
  yScale?: AxisScale;
  /** Pixels, default 640 x 360. */
  width?: number;
  height?: number;
}

type Point = { x: number; y: number };

/** Runs of neighbouring points that can be drawn. */
function drawableRuns(points: readonly Point[], canDraw: (point: Point) => boolean): Point[][] {
  const runs: Point[][] = [];
  let open = false;
  for (const point of points) {
    const drawable = canDraw(point);
    if (drawable && open) runs.at(-1)?.push(point);
    else if (drawable) runs.push([point]);
    open = drawable;
  }
  return runs;
}

/** A path through several points; a dot for a single one, which a path would not show. */
function drawRun(run: readonly Point[], x: Axis, y: Axis, color: string, dashed: boolean): string {
  const at = ({ x: px, y: py }: Point): [number, number] => [x.position(px), y.position(py)];
  const [first, ...rest] = run;
  if (first !== undefined && rest.length === 0) {
    const [cx, cy] = at(first);
    return element("circle", { cx, cy, r: 3, fill: color });
  }
  const d = run
    .map(
      (point, i) =>
        `${i === 0 ? "M" : "L"}${at(point)
          .map((value) => value.toFixed(1))
          .join(",")}`,
    )
    .join("");
  return element("path", {
    d,
    fill: "none",
    stroke: color,
    "stroke-width": 1.8,
    "stroke-linejoin": "round",
    "stroke-dasharray": dashed ? "5 4" : undefined,
  });
}

/** Swatches and names in rows that fit the width; returns the markup and the height it takes. */
function drawLegend(
  series: readonly LineSeries[],
  left: number,
  top: number,
  width: number,
): { markup: string; height: number } {
  if (series.length < 2 && (series[0]?.name ?? "") === "") return { markup: "", height: 0 };
  let x = left;
  let y = top;
  const parts = series.map(({ name, dashed }, i) => {
    const text = fitText(name, width - 30);
    const entryWidth = 26 + textWidth(text) + 16;
    if (x > left && x + entryWidth > left + width) {
      x = left;
      y += 18;
    }
    const swatch = element("line", {
      x1: x,
      x2: x + 20,
      y1: y + 8,
      y2: y + 8,
      stroke: paletteColor(i),
      "stroke-width": 3,
      "stroke-dasharray": dashed ? "5 4" : undefined,
    });
    const label = textElement(text, { x: x + 26, y: y + 12 });
    x += entryWidth;
    return swatch + label;
  });
  return { markup: parts.join(""), height: y - top + 22 };
}

/**
 * A line chart as static SVG: axes with ticks, grid, legend. Needs no browser to make and no script to show.
 *
 * @returns an `<svg>` element; text takes the colour of the page.
 * @example
 * lineChart([{ name: "training", points: [{ x: 1, y: 0.9 }, { x: 2, y: 0.4 }] }], { xLabel: "step", yLabel: "loss", yScale: "log" });
 */
export function lineChart(series: readonly LineSeries[], options: LineChartOptions = {}): string {
  const {
    title = "",
    xLabel = "",
    yLabel = "",
    xScale = "linear",
    yScale = "linear",
    width = 640,
    height = 360,
  } = options;
  const canDraw = (point: Point) => fitsScale(point.x, xScale) && fitsScale(point.y, yScale);
  const points = series.flatMap((line) => line.points.filter(canDraw));

  const legendTop = title === "" ? 8 : 30;
  const legend = drawLegend(series, 12, legendTop, width - 24);
  const bottom = height - (xLabel === "" ? 28 : 46);
  const top = legendTop + legend.height + 6;
  const y = createAxis(
    points.map((point) => point.y),
    yScale,
    6,
  )([bottom, top]);
  const left = labelRoom(y.ticks) + (yLabel === "" ? 6 : 26);
  const frame = { left, top, right: width - 16, bottom };
  const x = createAxis(
    points.map((point) => point.x),
    xScale,
    8,
    false,
  )([frame.left, frame.right]);

  const lines = series.map((line, i) =>
    drawableRuns(line.points, canDraw)
      .map((run) => drawRun(run, x, y, paletteColor(i), line.dashed ?? false))
      .join(""),
  );
  const empty = textElement("no data", {
    x: (frame.left + frame.right) / 2,
    y: (top + bottom) / 2,
    "text-anchor": "middle",
  });
  const heading = title === "" ? "" : textElement(fitText(title, width - 24), { x: 12, y: 20, "font-weight": 600 });
  return svgDocument(
    width,
    height,
    title || [yLabel, xLabel].filter((label) => label !== "").join(" over "),
    heading +
      legend.markup +
      drawVerticalAxis(y, frame, yLabel, 14) +
      drawHorizontalAxis(x, frame, xLabel) +
      (points.length > 0 ? lines.join("") : empty),
  );
}
