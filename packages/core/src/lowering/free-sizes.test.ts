import { expect, test } from "vitest";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Dim, Model, Value } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { freeSizes } from "./free-sizes.ts";

const reshape = (g: Builder, x: Value, target: Value, attributes = {}): Value =>
  g.op("Reshape", [x, target], attributes)[0] as Value;

/** x [batch, tokens, 16] through what `body` makes of it. */
function modelOf(
  body: (g: Builder, x: Value, constant: (...dims: number[]) => Value) => Value,
  shape: Dim[] = [],
): Model {
  const g = createBuilder(17);
  const x = g.input("x", "float32", shape.length > 0 ? shape : ["batch", "tokens", 16]);
  g.output(
    body(g, x, (...dims) => g.constant("int64", dims)),
    "y",
  );
  return toModel(g.finish(), 17);
}

async function run(model: Model, dims: readonly number[]): Promise<{ dims: readonly number[]; data: number[] }> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const size = dims.reduce((a, b) => a * b, 1);
  const { y } = await session.run({
    x: { type: "float32", dims, data: Float32Array.from({ length: size }, (_, i) => i) },
  });
  await session.close();
  return { dims: y?.dims ?? [], data: Array.from(y?.data as Float32Array) };
}

/** Heads apart and in front, [batch, heads, tokens, 8], by a Reshape to the given target. */
const heads = (g: Builder, x: Value, target: Value): Value => g.transpose(reshape(g, x, target), [0, 2, 1, 3]);

const free = modelOf((g, x, constant) => heads(g, x, constant(0, 0, 2, 8)));

test.each<[string, (g: Builder, x: Value, constant: (...dims: number[]) => Value) => Value, [string, number][]]>([
  ["tokens", (g, x, c) => heads(g, x, c(0, 9, 2, 8)), [["tokens", 9]]],
  ["a batch of one", (g, x, c) => heads(g, reshape(g, x, c(1, 0, 16)), c(0, 0, 2, 8)), [["batch", 1]]],
  [
    "both",
    (g, x, c) => heads(g, x, c(3, 9, 2, 8)),
    [
      ["batch", 3],
      ["tokens", 9],
    ],
  ],
  [
    "batch by heads",
    (g, x, c) => {
      const all = reshape(g, g.transpose(x, [1, 0, 2]), c(0, 6, 8)); // [tokens, batch * heads, 8]
      const apart = g.op("Reshape", [all, c(0, -1, 2, 8)])[0] as Value;
      return g.transpose(apart, [1, 2, 0, 3]);
    },
    [["batch", 3]],
  ],
  ["tokens again beside a -1", (g, x, c) => heads(g, reshape(g, x, c(0, 9, 16)), c(-1, 9, 2, 8)), [["tokens", 9]]],
  [
    "tokens beside a -1 first",
    (g, x, c) => g.mul(g.add(heads(g, x, c(-1, 9, 2, 8)), heads(g, x, c(0, 9, 2, 8))), 0.5),
    [["tokens", 9]],
  ],
  [
    "tokens beside a computed batch",
    (g, x, c) => {
      const batch = g.op("Gather", [g.op("Shape", [x])[0] as Value, c(0)])[0] as Value;
      return heads(g, x, g.op("Concat", [batch, c(9), c(2, 8)], { axis: 0 })[0] as Value);
    },
    [["tokens", 9]],
  ],
])("%s written in: the same at that size, and right at others", async (_, body, expected) => {
  const model = modelOf(body);
  const { model: freed, freed: sizes } = freeSizes(model);
  expect(sizes.map(({ symbol, value }) => [symbol, value])).toEqual(expected);
  for (const { nodes } of sizes) expect(nodes.length).toBeGreaterThan(0);
  const own = new Map<string, number>(expected);
  const dims = [own.get("batch") ?? 3, own.get("tokens") ?? 9, 16];
  expect(await run(freed, dims)).toEqual(await run(model, dims));
  for (const other of [
    [2, 5, 16],
    [4, 9, 16],
    [1, 1, 16],
  ])
    expect(await run(freed, other)).toEqual(await run(free, other));
  expect(freeSizes(freed).model).toBe(freed);
});

test.each<[string, (g: Builder, x: Value, constant: (...dims: number[]) => Value) => Value, Dim[]?]>([
  ["nothing", (g, x, c) => heads(g, x, c(0, 0, 2, 8))],
  [
    "two values of one size",
    (g, x, c) => g.add(g.reduceSum(reshape(g, x, c(0, 9, 16)), [1]), g.reduceSum(reshape(g, x, c(0, 8, 16)), [1])),
  ],
  // 8 tokens in heads of 8 features: either entry could be the tokens.
  ["an entry that could be another", (g, x, c) => reshape(g, x, c(0, 1, 8, 8)), ["batch", "tokens", 8]],
  ["rows in groups of 4", (g, x, c) => reshape(g, x, c(4, -1, 6)), ["rows", 6]],
  ["one row of many numbers", (g, x, c) => reshape(g, x, c(16)), ["rows", 16]],
  ["a size that is a number", (g, x, c) => reshape(g, x, c(2, 9, 2, 8)), [2, 9, 16]],
])("with %s the model is the same object", (_, body, shape) => {
  const model = modelOf(body, shape);
  const result = freeSizes(model);
  expect(result.freed).toEqual([]);
  expect(result.model).toBe(model);
});
