import {
  type Axis,
  type AxisScale,
  createAxis,
  drawHorizontalAxis,
  drawVerticalAxis,
  type Frame,
  fitsScale,
  labelRoom,
} from "./axes.ts";
import { element, FONT_SIZE, fitText, paletteColor, svgDocument, textElement, textWidth } from "./svg.ts";

/** A named point. */
export interface ScatterPoint {
  readonly name: string;
  readonly x: number;
  readonly y: number;
  /** Points of a group share a colour; default one group. */
  readonly group?: string;
  /** Ends of a vertical bar through the point, the lowest and highest of several measurements. */
  readonly range?: readonly [low: number, high: number];
}

/** A dashed line across the chart. */
export interface ReferenceLine {
  readonly name: string;
  readonly y: number;
}

export interface ScatterChartOptions {
  readonly title?: string;
  readonly xLabel?: string;
  readonly yLabel?: string;
  /** Default "linear". */
  readonly xScale?: AxisScale;
  readonly references?: readonly ReferenceLine[];
  /** Pixels, default 900 x 560. */
  readonly width?: number;
  readonly height?: number;
}

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

const RADIUS = 3.5;
const LINE = FONT_SIZE;
const MOST_LINES_AWAY = 8;

const overlaps = (a: Box, b: Box): boolean =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

/**
 * Where a label of some width can stand beside a point: to the right or to the left, then lines above and below.
 * null where every place is taken.
 */
function placeLabel(
  [cx, cy]: readonly [number, number],
  width: number,
  taken: readonly Box[],
  frame: Frame,
): Box | null {
  const at = (left: number, middle: number): Box => ({
    left,
    right: left + width,
    top: middle - LINE / 2,
    bottom: middle + LINE / 2,
  });
  const columns = [cx + RADIUS + 3, cx - RADIUS - 3 - width, cx - width / 2, cx + width, cx - 2 * (width + RADIUS + 3)];
  for (let away = 0; away <= MOST_LINES_AWAY; away++) {
    for (const shift of away === 0 ? [0] : [-away * LINE, away * LINE]) {
      for (const left of away === 0 ? columns.slice(0, 2) : columns) {
        const box = at(left, cy + shift);
        const isInside =
          box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
        if (isInside && !taken.some((other) => overlaps(box, other))) return box;
      }
    }
  }
  return null;
}

/** A label, with a thin line to its point where it stands farther away. */
function drawLabel(name: string, box: Box, [cx, cy]: readonly [number, number]): string {
  const middle = (box.top + box.bottom) / 2;
  const text = textElement(name, { x: box.left, y: middle + FONT_SIZE / 3, "font-size": FONT_SIZE - 2 });
  if (Math.abs(middle - cy) < LINE * 1.5) return text;
  const x2 = Math.min(Math.max(cx, box.left), box.right);
  const y2 = middle < cy ? box.bottom : box.top;
  return text + element("line", { x1: cx, y1: cy, x2, y2, stroke: "currentColor", "stroke-opacity": 0.25 });
}

function drawPoint({ range }: ScatterPoint, [cx, cy]: readonly [number, number], y: Axis, color: string): string {
  const bar = range
    ? element("line", { x1: cx, x2: cx, y1: y.position(range[0]), y2: y.position(range[1]), stroke: color })
    : "";
  return bar + element("circle", { cx, cy, r: RADIUS, fill: color });
}

/** Names of the groups with their colours, in a row above the chart. */
function drawGroups(groups: readonly string[], left: number, top: number): string {
  if (groups.length < 2) return "";
  let x = left;
  return groups
    .map((name, i) => {
      const dot = element("circle", { cx: x + RADIUS, cy: top, r: RADIUS, fill: paletteColor(i) });
      const label = textElement(name, { x: x + 12, y: top + FONT_SIZE / 3 });
      x += 28 + textWidth(name);
      return dot + label;
    })
    .join("");
}

/**
 * A chart of named points as static SVG, their names beside them where there is room.
 *
 * @param points those that cannot be drawn (NaN, infinite, not positive on a log scale) are left out.
 * @returns an `<svg>` element; text takes the colour of the page.
 * @example
 * scatterChart([{ name: "LoRA", x: 32768, y: 0.57 }], { xLabel: "trained values", yLabel: "accuracy", xScale: "log" });
 */
export function scatterChart(points: readonly ScatterPoint[], options: ScatterChartOptions = {}): string {
  const { title = "", xLabel = "", yLabel = "", xScale = "linear", references = [] } = options;
  const { width = 900, height = 560 } = options;
  const drawn = points.filter(({ x, y }) => fitsScale(x, xScale) && fitsScale(y, "linear"));
  const groups = [...new Set(drawn.map(({ group = "" }) => group))];
  const groupsTop = title === "" ? 14 : 38;
  const top = groupsTop + (groups.length < 2 ? 0 : 16);
  const bottom = height - (xLabel === "" ? 28 : 46);
  const heights = drawn.flatMap(({ y, range = [] }) => [y, ...range.filter((value) => fitsScale(value, "linear"))]);
  const y = createAxis([...heights, ...references.map((line) => line.y)], "linear", 8)([bottom, top]);
  const left = labelRoom(y.ticks) + (yLabel === "" ? 6 : 26);
  const frame = { left, top, right: width - 16, bottom };
  const across = createAxis(
    drawn.map((point) => point.x),
    xScale,
    8,
  )([frame.left, frame.right]);

  const places = drawn.map((point): [number, number] => [across.position(point.x), y.position(point.y)]);
  const taken: Box[] = places.map(([cx, cy]) => ({
    left: cx - RADIUS,
    right: cx + RADIUS,
    top: cy - RADIUS,
    bottom: cy + RADIUS,
  }));
  const lines = references.map((line) => {
    const height = y.position(line.y);
    const name = fitText(line.name, frame.right - frame.left);
    taken.push({ left: frame.right - textWidth(name), right: frame.right, top: height - LINE - 2, bottom: height });
    return (
      element("line", {
        ...{ x1: frame.left, x2: frame.right, y1: height, y2: height },
        ...{ stroke: "currentColor", "stroke-opacity": 0.6, "stroke-dasharray": "5 4" },
      }) + textElement(name, { x: frame.right, y: height - 4, "text-anchor": "end" })
    );
  });
  const labels = drawn.map(({ name }, i) => {
    const place = places[i] as [number, number];
    const box = placeLabel(place, textWidth(name) * ((FONT_SIZE - 2) / FONT_SIZE), taken, frame);
    if (!box) return "";
    taken.push(box);
    return drawLabel(name, box, place);
  });
  const dots = drawn.map((point, i) =>
    drawPoint(point, places[i] as [number, number], y, paletteColor(groups.indexOf(point.group ?? ""))),
  );
  const heading = title === "" ? "" : textElement(fitText(title, width - 24), { x: 12, y: 20, "font-weight": 600 });
  return svgDocument(
    width,
    height,
    title || [yLabel, xLabel].filter((label) => label !== "").join(" over "),
    heading +
      drawGroups(groups, frame.left, groupsTop) +
      drawVerticalAxis(y, frame, yLabel, 14) +
      drawHorizontalAxis(across, frame, xLabel) +
      lines.join("") +
      dots.join("") +
      labels.join(""),
  );
}
