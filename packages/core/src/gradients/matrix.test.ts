import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { float } from "../graph/attributes.ts";
import { createBuilder } from "../graph/builder.ts";
import { checkGradient } from "../testing/check-gradient.ts";

describe("MatMul", () => {
  test.each([
    { a: [2, 3], b: [3, 4] },
    { a: [1, 1], b: [1, 1] },
    { a: [7, 5], b: [5, 3] },
    { a: [2, 5, 3], b: [3, 4] }, // a weight under a batch
    { a: [2, 1, 5, 3], b: [3, 2] },
    { a: [2, 3], b: [4, 3, 2] }, // the left factor is repeated
    { a: [5, 1, 2, 3], b: [6, 3, 4] }, // both sides broadcast
    { a: [1, 2, 3], b: [4, 3, 2] },
    { a: [3], b: [3] },
    { a: [3], b: [3, 2] },
    { a: [3], b: [4, 3, 2] },
    { a: [4, 3], b: [3] },
    { a: [2, 4, 3], b: [3] },
  ])("$a by $b", ({ a, b }) => checkGradient((g, [x, y]) => g.matMul(x!, y!), [{ dims: a }, { dims: b }]));

  test.each([0, 1])("input %i frozen", (frozen) =>
    checkGradient(
      (g, [x, y]) => g.matMul(x!, y!),
      [
        { dims: [2, 5, 3], frozen: frozen === 0 },
        { dims: [3, 4], frozen: frozen === 1 },
      ],
    ),
  );

  test("a frozen weight saves no activation: the backward reads the weight and dY only", () => {
    const g = createBuilder();
    const x = g.input("x", "float32", ["batch", "tokens", 3]);
    const w = g.input("w", "float32", [3, 4]);
    const y = g.matMul(x, w);
    const dY = g.input("dY", "float32", y.shape);
    const [dX] = differentiate(g, [{ value: y, gradient: dY }], [x]);
    g.output(dX!, "dX");
    const { nodes } = g.finish();
    expect(nodes.filter((n) => n.op !== "Identity").map((n) => [n.op, n.inputs])).toEqual([
      ["FusedMatMul", ["dY", "w"]],
    ]);
  });
});

describe("Gemm", () => {
  const flags = [false, true].flatMap((transA) => [false, true].map((transB) => ({ transA, transB })));
  test.each(flags)("$transA $transB with alpha, beta and a bias", ({ transA, transB }) =>
    checkGradient(
      (g, [a, b, c]) => g.gemm(a!, b!, c!, { transA, transB, alpha: 0.5, beta: -2 }),
      [{ dims: transA ? [3, 2] : [2, 3] }, { dims: transB ? [4, 3] : [3, 4] }, { dims: [4] }],
    ),
  );
  test.each([[[2, 4]], [[2, 1]], [[1]], [[]]])("C %j", (dims) =>
    checkGradient((g, [a, b, c]) => g.gemm(a!, b!, c!), [{ dims: [2, 3] }, { dims: [3, 4] }, { dims }]),
  );
  test("without C, one side frozen, opset 11", async () => {
    await checkGradient((g, [a, b]) => g.gemm(a!, b!), [{ dims: [5, 3] }, { dims: [3, 7], constant: true }], {
      opset: 11,
    });
    await checkGradient((g, [a, b]) => g.gemm(a!, b!), [{ dims: [5, 3], frozen: true }, { dims: [3, 7] }]);
  });
});

describe("FusedMatMul", () => {
  const flags = [false, true].flatMap((transA) => [false, true].map((transB) => ({ transA, transB })));
  const swap = (dims: number[], yes: boolean): number[] =>
    yes ? [...dims.slice(0, -2), dims.at(-1)!, dims.at(-2)!] : dims;
  describe.each(flags)("transA $transA transB $transB", ({ transA, transB }) => {
    test.each([
      { a: [2, 3], b: [3, 4] },
      { a: [2, 2, 3], b: [2, 3, 4] },
      { a: [2, 1, 5, 3], b: [4, 3, 2] },
      { a: [2, 5, 3], b: [3, 4] },
      { a: [5, 3], b: [2, 3, 4] },
    ])("$a by $b", ({ a, b }) =>
      checkGradient(
        (g, [x, y]) => g.fusedMatMul(x!, y!, { transA, transB, alpha: 0.25 }),
        [{ dims: swap(a, transA) }, { dims: swap(b, transB) }],
      ),
    );
  });
  test.each([
    { transA: 0, transB: 0, transBatchA: 1, transBatchB: 1 },
    { transA: 1, transB: 0, transBatchA: 1, transBatchB: 0 },
    { transA: 0, transB: 1, transBatchA: 0, transBatchB: 1 },
    { transA: 1, transB: 1, transBatchA: 1, transBatchB: 1 },
  ])("batch axes moved: %j", (f) => {
    const layout = (batch: number, rows: number, columns: number, moved: number): number[] =>
      moved ? [rows, batch, columns] : [batch, rows, columns];
    const a = f.transA ? layout(2, 3, 5, f.transBatchA) : layout(2, 5, 3, f.transBatchA);
    const b = f.transB ? layout(2, 4, 3, f.transBatchB) : layout(2, 3, 4, f.transBatchB);
    return checkGradient(
      (g, [x, y]) => g.op("FusedMatMul", [x!, y!], { ...f, alpha: float(2) }, { domain: "com.microsoft" }),
      [{ dims: a }, { dims: b }],
    );
  });
});
