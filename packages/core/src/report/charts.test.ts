import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { barChart } from "./bar-chart.ts";
import { confusionMatrixChart } from "./confusion-matrix-chart.ts";
import { htmlReport } from "./html-report.ts";
import { lineChart } from "./line-chart.ts";
import { scatterChart } from "./scatter-chart.ts";

/** Fails on markup that is not well-formed, and on coordinates that are not numbers. */
function checkWellFormed(markup: string): void {
  const open: string[] = [];
  const rest = markup.replaceAll(
    /<(\/?)([a-z][a-z0-9]*)((?: [a-zA-Z0-9:-]+="[^"<]*")*)(\/?)>/g,
    (_, close, name, attributes, empty) => {
      expect(attributes).not.toMatch(/NaN|Infinity|undefined/);
      if (close) expect(open.pop()).toBe(name);
      else if (!empty) open.push(name);
      return "";
    },
  );
  expect(open).toEqual([]);
  expect(rest).not.toMatch(/[<>]/);
}

const textsOf = (svg: string) => Array.from(svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g), (match) => match[1]!);
const attack = `<script>alert("1")</script>&'`;

/** End points of the first drawn path: M x,y L x,y ... */
const pathPoints = (svg: string) =>
  Array.from(svg.matchAll(/<path d="(M[^"]*)" fill="none"/g), (match) =>
    match[1]!
      .split(/[ML]/)
      .slice(1)
      .map((pair) => pair.split(",").map(Number)),
  );

describe("lineChart", () => {
  const points = [1, 2, 3, 4].map((x) => ({ x, y: 10 ** -x }));

  test("larger values are higher; a log scale spaces powers of ten evenly, a linear one does not", () => {
    const heights = (yScale: "log" | "linear") =>
      pathPoints(lineChart([{ name: "loss", points }], { yScale }))[0]!.map(([, y]) => y!);
    const log = heights("log");
    expect(log[1]! - log[0]!).toBeGreaterThan(10);
    expect(log[2]! - log[1]!).toBeCloseTo(log[1]! - log[0]!, 0);
    const linear = heights("linear");
    expect(linear[1]! - linear[0]!).toBeGreaterThan(5 * (linear[2]! - linear[1]!));
  });

  test("ticks, labels and legend are written, powers of ten as plain numbers", () => {
    const svg = lineChart(
      [
        { name: "training", points },
        { name: "validation", points, dashed: true },
      ],
      {
        title: "Loss",
        xLabel: "step",
        yLabel: "cross-entropy",
        yScale: "log",
      },
    );
    expect(textsOf(svg)).toEqual(
      expect.arrayContaining(["Loss", "training", "validation", "step", "cross-entropy", "0.001", "0.1"]),
    );
    expect(svg.match(/stroke-dasharray/g)).toHaveLength(2); // the line and its swatch
    checkWellFormed(svg);
  });

  test("values that cannot be drawn interrupt the line; a lone point becomes a dot", () => {
    const gap = [1, 2, Number.NaN, 3, Number.POSITIVE_INFINITY, 4, 5].map((y, x) => ({ x, y }));
    const svg = lineChart([{ name: "loss", points: gap }]);
    expect(pathPoints(svg).map((path) => path.length)).toEqual([2, 2]);
    expect(svg.match(/<circle/g)).toHaveLength(1);
    const log = lineChart(
      [
        {
          name: "loss",
          points: [
            { x: 0, y: 1 },
            { x: 1, y: 0 },
            { x: 2, y: 3 },
          ],
        },
      ],
      { yScale: "log" },
    );
    expect(log.match(/<circle/g)).toHaveLength(2);
  });

  test("no data says so", () => {
    expect(textsOf(lineChart([]))).toContain("no data");
    expect(textsOf(lineChart([{ name: "a", points: [{ x: 1, y: Number.NaN }] }]))).toContain("no data");
  });

  test("any names and numbers give well-formed markup inside the frame", () => {
    const value = fc.oneof(fc.double(), fc.integer({ min: -5, max: 5 }));
    const series = fc.array(
      fc.record({
        name: fc.string({ unit: "binary", maxLength: 20 }),
        points: fc.array(fc.record({ x: value, y: value }), { maxLength: 8 }),
      }),
      { maxLength: 5 },
    );
    fc.assert(
      fc.property(
        series,
        fc.constantFrom("linear" as const, "log" as const),
        fc.string({ unit: "binary" }),
        (lines, scale, label) => {
          const svg = lineChart(lines, { title: label, xLabel: label, yScale: scale });
          checkWellFormed(svg);
          for (const [x, y] of pathPoints(svg).flat()) {
            expect(x! >= -0.1 && x! <= 640.1 && y! >= -0.1 && y! <= 360.1).toBe(true);
          }
        },
      ),
    );
  });
});

describe("barChart", () => {
  const widths = (svg: string) =>
    Array.from(svg.matchAll(/<rect x="[^"]*" y="[^"]*" width="([^"]*)"/g), (match) => Number(match[1]));

  test("lengths are proportional to values and start at zero", () => {
    const [a, b, c] = widths(
      barChart([
        { label: "a", value: 0.2 },
        { label: "b", value: 0.4 },
        { label: "c", value: -0.1 },
      ]),
    );
    expect(b! / a!).toBeCloseTo(2, 2);
    expect(c! / a!).toBeCloseTo(0.5, 2);
  });

  test("values and whiskers are written; what is not finite is written only", () => {
    const svg = barChart(
      [
        { label: "LoRA", value: 0.742, error: 0.01, highlight: true },
        { label: "broken", value: Number.NaN },
      ],
      { valueLabel: "accuracy" },
    );
    expect(textsOf(svg)).toEqual(expect.arrayContaining(["LoRA", "0.742 ± 0.01", "NaN", "accuracy"]));
    expect(widths(svg)).toHaveLength(1);
    expect(svg.match(/<path/g)).toHaveLength(1);
    checkWellFormed(svg);
    checkWellFormed(barChart([], { title: attack }));
    checkWellFormed(barChart([{ label: attack.repeat(9), value: 1, error: Number.NaN }]));
  });
});

describe("confusionMatrixChart", () => {
  test("rows are shaded by their own share; counts and tooltips are exact", () => {
    const svg = confusionMatrixChart(
      [
        [90, 10],
        [0, 4],
      ],
      ["ham", "spam"],
    );
    expect(Array.from(svg.matchAll(/fill-opacity="([^"]*)"/g), (match) => match[1])).toEqual(["0.9", "0.1", "1"]);
    expect(textsOf(svg)).toEqual(
      expect.arrayContaining(["90", "10", "4", "ham", "spam", "true class", "predicted class"]),
    );
    expect(svg).toContain("ham taken for spam: 10 (10.0 %)");
    checkWellFormed(svg);
  });

  test("many classes, an empty row and hostile labels stay well-formed", () => {
    const size = 60;
    const matrix = Array.from({ length: size }, (_, i) =>
      Array.from({ length: size }, (_, j) => (i === 3 ? 0 : i * j)),
    );
    const svg = confusionMatrixChart(
      matrix,
      matrix.map((_, i) => `${attack}${i}`),
      { title: attack },
    );
    checkWellFormed(svg);
    expect(svg).not.toContain("<script");
  });

  test("a matrix that does not fit its labels is refused", () => {
    for (const matrix of [[[1]], [[1, 2], [3]], []]) {
      expect(() => confusionMatrixChart(matrix, ["a", "b"])).toThrow(
        expect.objectContaining({ code: "CONFUSION_MATRIX_SHAPE" }),
      );
    }
  });
});

describe("htmlReport", () => {
  const svg = lineChart([
    {
      name: attack,
      points: [
        { x: 0, y: 1 },
        { x: 1, y: 2 },
      ],
    },
  ]);
  const report = () =>
    htmlReport({
      title: `Run ${attack}`,
      summary: attack,
      sections: [
        {
          heading: attack,
          text: ["first", attack],
          table: {
            columns: ["method", "accuracy"],
            rows: [
              [attack, 0.75],
              ["b", 1],
            ],
            caption: attack,
          },
          svg: [svg, svg],
        },
        { heading: "empty" },
      ],
    });

  test("contains everything, escaped; nothing runs and nothing is loaded", () => {
    const html = report();
    expect(html.match(/<svg /g)).toHaveLength(2);
    expect(html).toContain('<td class="number">0.75</td>');
    expect(html).not.toMatch(/<script|<link|<img|<iframe|\son[a-z]+=|javascript:/i);
    expect(html.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:|url\(|@import/);
    expect(html).toContain("default-src 'none'");
    expect(html.startsWith("<!doctype html>")).toBe(true);
    checkWellFormed(
      html
        .replace("<!doctype html>", "")
        .replaceAll(/<meta[^>]*>/g, "")
        .replace(/<style>[^<]*<\/style>/, ""),
    );
    expect(report()).toBe(html);
  });

  test("tables of the wrong shape and markup that is no svg are refused", () => {
    const section = (part: object) => () => htmlReport({ title: "t", sections: [{ heading: "h", ...part }] });
    expect(section({ table: { columns: ["a"], rows: [["x"], ["x", "y"]] } })).toThrow(
      /received 2 in row 1 of the table in "h"/,
    );
    expect(section({ svg: "<script></script>" })).toThrow(expect.objectContaining({ code: "REPORT_SVG_INVALID" }));
  });
});

describe("scatterChart", () => {
  const circles = (svg: string) =>
    Array.from(svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g), (match) => [Number(match[1]), Number(match[2])]);
  const points = [100, 1000, 10_000].map((x, i) => ({ name: `m${i}`, x, y: 0.5 + i / 20 }));

  test("larger values are higher and to the right; a log scale spaces powers of ten evenly", () => {
    const [a, b, c] = circles(scatterChart(points, { xScale: "log" })) as [number, number][];
    expect(b![0]! - a![0]!).toBeCloseTo(c![0]! - b![0]!, 0);
    expect(b![1]!).toBeLessThan(a![1]!);
  });

  test("every point has its name, labels do not overlap, and references are drawn across", () => {
    const crowd = Array.from({ length: 12 }, (_, i) => ({ name: `method ${i}`, x: 1000, y: 0.5 + i / 1000 }));
    const svg = scatterChart([...crowd, { name: "far", x: 10, y: 0.4 }], {
      ...{ title: attack, xLabel: "values", yLabel: "accuracy", xScale: "log" },
      references: [{ name: "frozen", y: 0.45 }],
    });
    checkWellFormed(svg);
    expect(textsOf(svg)).toEqual(expect.arrayContaining([...crowd.map(({ name }) => name), "frozen"]));
    const boxes = Array.from(
      svg.matchAll(/<text fill="currentColor" x="([\d.]+)" y="([\d.]+)" font-size="10">/g),
      (m) => [Number(m[1]), Number(m[2])] as const,
    );
    expect(boxes).toHaveLength(13);
    for (const [i, [x, y]] of boxes.entries())
      for (const [u, v] of boxes.slice(i + 1)) expect(Math.abs(y - v) >= 12 - 0.1 || Math.abs(x - u) > 40).toBe(true);
  });

  test("groups get colours and a legend, ranges a bar, and what cannot be drawn is left out", () => {
    const svg = scatterChart(
      [
        { name: "a", x: 1, y: 1, group: "one", range: [0.5, 1.5] },
        { name: "b", x: 2, y: 2, group: "two" },
        { name: "c", x: 0, y: Number.NaN },
      ],
      { xScale: "log" },
    );
    checkWellFormed(svg);
    expect(textsOf(svg)).toEqual(expect.arrayContaining(["one", "two"]));
    expect(textsOf(svg)).not.toContain("c");
    expect(new Set(Array.from(svg.matchAll(/<circle[^>]*fill="(#\w+)"/g), (m) => m[1])).size).toBe(2);
    checkWellFormed(scatterChart([]));
  });
});
