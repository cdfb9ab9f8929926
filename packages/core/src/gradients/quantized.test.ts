import { expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { createBuilder } from "../graph/builder.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { bnb4, nBits, packedForms } from "../quantization/testing/packed-forms.ts";
import { checkGradient } from "../testing/check-gradient.ts";
import { runBuilder } from "../testing/run-graph.ts";

test.each(Object.entries(packedForms))("%s", async (form, linear) => {
  const f = (g: Parameters<typeof linear>[0], [x]: Parameters<typeof linear>[1][]) =>
    linear(g, x!, "block.dense", 6, 48, 5);
  const opset = form.startsWith("DequantizeLinear") ? 21 : 13;
  await checkGradient(f, [{ dims: [3, 48] }], { opset });
  await checkGradient(f, [{ dims: [2, 3, 48] }], { opset, symbolic: ["distinct"] });
});

test("odd sizes: rows and columns that fill neither bytes nor blocks", async () => {
  for (const linear of [nBits(4, 16, "packed"), nBits(2, 16, "absent"), nBits(8, 32, "packed"), bnb4("nf4", 16)]) {
    await checkGradient((g, [x]) => linear(g, x!, "odd", 3, 35, 9), [{ dims: [5, 35] }], { opset: 17 });
  }
});

test("Gemm and FusedMatMul over a dequantised weight, from either side", async () => {
  const weight = (g: ReturnType<typeof createBuilder>, dims: [number, number]) => {
    const codes = Array.from({ length: dims[0] * dims[1] }, (_, i) => ((i * 37) % 255) - 127);
    const inputs = [
      g.initializer("w", tensorFrom("int8", dims, codes)),
      g.initializer("s", tensorFrom("float32", [], [0.02])),
    ];
    return g.op("DequantizeLinear", inputs)[0]!;
  };
  await checkGradient(
    (g, [x]) => g.gemm(x!, weight(g, [4, 7]), null, { transB: true, alpha: 0.5 }),
    [{ dims: [3, 7] }],
  );
  await checkGradient((g, [x]) => g.gemm(x!, weight(g, [7, 4]), null, { transA: true }), [{ dims: [7, 3] }]);
  await checkGradient((g, [x]) => g.fusedMatMul(x!, weight(g, [4, 7]), { transB: true }), [{ dims: [2, 3, 7] }]);
});

test("a weight that is cast from float16 has the gradient of its float32 form", async () => {
  const values = Array.from({ length: 28 }, (_, i) => ((i * 13) % 17) / 8 - 1);
  await checkGradient(
    (g, [x]) => g.matMul(x!, g.cast(g.initializer("w", tensorFrom("float16", [7, 4], values)), "float32")),
    [{ dims: [2, 3, 7] }],
  );
});

test("the backward's dequantisation hangs on the gradient: what it makes larger does not follow from constants", () => {
  const larger = new Set(["Gather", "Cast", "DequantizeLinear", "Sub", "Mul", "Transpose"]);
  for (const [form, linear] of Object.entries(packedForms)) {
    const g = createBuilder(21);
    const x = g.input("x", "float32", ["batch", 48]);
    const y = linear(g, x, "block.dense", 6, 48, 5);
    const before = g.nodes.length;
    const [dX] = differentiate(g, [{ value: g.reduceSum(g.mul(y, y), [0, 1], false) }], [x]);
    g.output(dX!, "dX");
    const folded = g.nodes
      .slice(before)
      .filter(({ op, inputs }) => larger.has(op) && inputs.every((name) => name === "" || g.initializers.has(name)));
    expect(
      folded.map((n) => n.name),
      form,
    ).toEqual([]);
  }
});

test("a NaN in the gradient stays one and breaks nothing", async () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", [2, 32]);
  const dY = g.input("dY", "float32", [2, 4]);
  const y = nBits(4, 16, "packed")(g, x, "dense", 4, 32, 3);
  const [dX] = differentiate(g, [{ value: y, gradient: dY }], [x]);
  g.output(dX!, "dX");
  const feeds = {
    x: { type: "float32", dims: [2, 32], data: new Float32Array(64).fill(1) },
    dY: { type: "float32", dims: [2, 4], data: Float32Array.of(Number.NaN, 0, 0, 0, 1, 1, 1, 1) },
  } as const;
  const { dX: result } = await runBuilder(g, feeds);
  const values = result!.data as Float32Array;
  expect(Number.isNaN(values[0])).toBe(true);
  expect(values.slice(32).every(Number.isFinite)).toBe(true);
});

test("reordered columns are refused by name", () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", [2, 32]);
  const inputs = [
    x,
    g.initializer("b", tensorFrom("uint8", [4, 2, 8], new Uint8Array(64))),
    g.initializer("s", tensorFrom("float32", [8], new Float32Array(8))),
    null,
    g.initializer("g_idx", tensorFrom("int32", [32], new Int32Array(32))),
  ];
  const attributes = { N: 4, K: 32, bits: 4, block_size: 16 };
  const [y] = g.op("MatMulNBits", inputs, attributes, { domain: "com.microsoft", name: "q_proj" });
  expect(() => differentiate(g, [{ value: g.reduceSum(y!, [0, 1], false) }], [x])).toThrow(/q_proj.*g_idx/);
});
