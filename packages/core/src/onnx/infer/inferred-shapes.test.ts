import { expect, test } from "vitest";
import { float } from "../../graph/attributes.ts";
import { type Builder, createBuilder } from "../../graph/builder.ts";
import { runBuilder } from "../../testing/run-graph.ts";
import { evaluateDim } from "../dims.ts";
import type { Value } from "../ir.ts";

type Case = [name: string, dims: number[][], build: (g: Builder, x: Value[]) => Value[], opset?: number];

const microsoft = { domain: "com.microsoft" };
const spread = (g: Builder, ...ends: number[]): Value => g.ints(ends);

/** Operators whose result's shape is not simply that of an input. */
const cases: Case[] = [
  [
    "MatMul",
    [
      [5, 1, 2, 3],
      [6, 3, 4],
    ],
    (g, [a, b]) => [g.matMul(a!, b!)],
  ],
  ["MatMul of vectors", [[3], [3]], (g, [a, b]) => [g.matMul(a!, b!)]],
  ["MatMul by a vector", [[2, 4, 3], [3]], (g, [a, b]) => [g.matMul(a!, b!)]],
  ["Gemm", [[3, 2], [4, 3], [4]], (g, [a, b, c]) => [g.gemm(a!, b!, c!, { transA: true, transB: true })]],
  [
    "FusedMatMul",
    [
      [2, 3, 5],
      [2, 4, 3],
    ],
    (g, [a, b]) => [g.fusedMatMul(a!, b!, { transA: true, transB: true })],
  ],
  [
    "FusedMatMul moving batch axes",
    [
      [5, 2, 3],
      [3, 2, 4],
    ],
    (g, x) => g.op("FusedMatMul", x, { transBatchA: 1, transBatchB: 1 }, microsoft),
  ],
  [
    "Einsum",
    [
      [2, 3],
      [3, 4],
    ],
    (g, x) => g.op("Einsum", x, { equation: "ij,jk" }),
  ],
  [
    "Range up and down, as long as an axis",
    [[3, 5]],
    (g, [x]) => {
      const n = g.squeeze(g.slice(g.op("Shape", [x!])[0]!, [0], [1], [0]), [0]);
      const range = (start: Value, limit: Value, step: number): Value =>
        g.op("Range", [start, limit, g.constant("int64", step)])[0]!;
      const [zero, minus] = [g.constant("int64", 0), g.op("Neg", [n])[0]!];
      return [range(zero, n, 1), range(zero, n, 2), range(n, minus, -1), range(n, minus, -2), range(n, minus, -4)];
    },
  ],
  ["Reshape", [[2, 3, 4]], (g, [x]) => g.op("Reshape", [x!, spread(g, 0, -1)])],
  ["Reshape splitting", [[2, 12]], (g, [x]) => g.op("Reshape", [x!, spread(g, -1, 3, 2)])],
  ["Transpose", [[2, 3, 4]], (g, [x]) => [...g.op("Transpose", [x!]), ...g.op("Transpose", [x!], { perm: [1, 0, 2] })]],
  ["Flatten", [[2, 3, 4]], (g, [x]) => [-1, 0, 1, 3].flatMap((axis) => g.op("Flatten", [x!], { axis }))],
  ["Squeeze", [[1, 3, 1]], (g, [x]) => [g.squeeze(x!, [-1]), g.squeeze(x!, [0, 2])]],
  ["Unsqueeze", [[3, 2]], (g, [x]) => [g.unsqueeze(x!, [0, -1]), g.unsqueeze(x!, [1])]],
  [
    "Concat",
    [
      [2, 3],
      [2, 4],
    ],
    (g, x) => [g.concat(x, -1)],
  ],
  ["Split", [[2, 7]], (g, [x]) => g.split(x!, [3, 4], 1)],
  ["Split in uneven parts", [[2, 7]], (g, [x]) => g.op("Split", [x!], { axis: 1, num_outputs: 3 }, { count: 3 })],
  [
    "Slice",
    [[6, 5]],
    (g, [x]) => [
      g.slice(x!, [1], [4], [0]),
      g.slice(x!, [-3], [100], [1]),
      g.slice(x!, [0, 0], [-1, 1], [0, 1]),
      g.slice(x!, [5], [-100], [0], [-2]),
      g.slice(x!, [4], [1], [0]),
    ],
  ],
  [
    "Gather",
    [[4, 3, 2]],
    (g, [x]) => [g.gather(x!, g.constant("int64", [0, 1], [1, 2]), 1), g.gather(x!, g.constant("int64", 1), -1)],
  ],
  [
    "GatherND",
    [[2, 4, 3]],
    (g, [x]) => [
      g.gatherND(x!, g.constant("int64", [0, 1, 1, 2], [2, 2])),
      g.gatherND(x!, g.constant("int64", [0, 1], [2, 1]), 1),
    ],
  ],
  ["Expand", [[3, 1]], (g, [x]) => g.op("Expand", [x!, spread(g, 2, 1, 4)])],
  ["Tile", [[2, 3]], (g, [x]) => g.op("Tile", [x!, spread(g, 2, 3)])],
  [
    "Pad",
    [[2, 5]],
    (g, [x]) => [
      ...g.op("Pad", [x!, spread(g, 1, -1, 0, 2)]),
      ...g.op("Pad", [x!, spread(g, 1, 2), null, g.ints([-1])]),
    ],
  ],
  [
    "OneHot",
    [[2]],
    (g) => [g.oneHot(g.constant("int64", [0, 2]), 3), g.oneHot(g.constant("int64", [0, 2]), 3, [0, 1], 0)],
  ],
  ["TopK", [[3, 4]], (g, [x]) => [g.op("TopK", [x!, g.ints([2])], { axis: 0 }, { count: 2 })[0]!]],
  [
    "LayerNormalization with statistics",
    [
      [2, 3, 4],
      [3, 4],
    ],
    (g, x) => g.op("LayerNormalization", x, { axis: 1, epsilon: float(1e-5) }, { count: 3 }),
  ],
  [
    "SkipLayerNormalization with its sum",
    [[2, 3, 4], [2, 3, 4], [4]],
    (g, x) =>
      g.op("SkipLayerNormalization", x, { epsilon: float(1e-5) }, { ...microsoft, outputs: ["y", "", "", "s"] }),
  ],
  [
    "SoftmaxCrossEntropyLoss",
    [[2, 3]],
    (g, [x]) => g.op("SoftmaxCrossEntropyLoss", [x!, g.constant("int64", [0, 1])], { reduction: "none" }, { count: 2 }),
  ],
];

test.each(cases)("%s", async (_, dims, build, opset = 21) => {
  for (const symbolic of [false, true]) {
    const g = createBuilder(opset);
    const inputs = dims.map((d, i) =>
      g.input(`x${i}`, "float32", symbolic ? d.map((n) => (n === 1 ? 1 : `n${n}`)) : d),
    );
    const outputs = build(g, inputs);
    outputs.forEach((y, i) => {
      g.output(y, `y${i}`);
    });
    const feeds = Object.fromEntries(
      dims.map((d, i) => [
        `x${i}`,
        { type: "float32" as const, dims: d, data: new Float32Array(d.reduce((a, b) => a * b, 1)).fill(0.5) },
      ]),
    );
    const run = await runBuilder(g, feeds);
    const sizes = new Map(dims.flat().map((n) => [`n${n}`, n]));
    outputs.forEach((y, i) => {
      const real = run[`y${i}`]!.dims;
      expect(y.shape).toHaveLength(real.length);
      expect(run[`y${i}`]!.type).toBe(y.type);
      // An invented symbol ("?7") says nothing; everything else must be the size that ONNX Runtime finds.
      const known = y.shape.map((d, axis) => evaluateDim(d, sizes) ?? (symbolic ? real[axis] : d));
      expect(known).toEqual(real);
    });
  }
});

test("axes that are computed at run time are refused where the rank depends on them", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", [1, 3, 1]);
  const axes = g.input("axes", "int64", [1]);
  expect(() => g.op("Squeeze", [x, axes])).toThrow(/axes must be constant/);
  expect(() => g.op("Unsqueeze", [x, axes])).toThrow(/axes must be constant/);
});
