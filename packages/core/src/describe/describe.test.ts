import { expect, test } from "vitest";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { PeftError } from "../errors.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { runMemory } from "../memory/run-memory.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { quantizeModel } from "../quantization/quantize-model.ts";
import { describeModel } from "./describe.ts";
import { formatDescription } from "./format.ts";

const node = (g: ReturnType<typeof createBuilder>, op: string, inputs: Value[], attributes = {}): Value =>
  g.op(op, inputs, attributes)[0] as Value;

test("live memory of a chain, counted by hand", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", ["n", 4]); // 16 n bytes, held by the caller
  const a = node(g, "Gelu", [x]); // 16 n
  const b = node(g, "Relu", [a]); // in the place of a
  const c = g.matMul(b, g.initializer("w", tensorFrom("float32", [4, 8], new Array(32).fill(1)))); // 32 n beside b
  g.output(g.reduceSum(g.reshape(c, [8, "n"]), [0, 1], false), "y");
  const graph = g.finish();
  const found = runMemory(graph, new Map([["n", 10]]));
  expect(found.peakBytes).toBe(160 + 160 + 320);
  expect(found.unknownSizes).toEqual([]);
  expect(runMemory(graph, new Map()).unknownSizes).toContain("x");
});

test("a value is kept until its last reader", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", [100]);
  const a = node(g, "Gelu", [x]);
  const b = node(g, "Gelu", [a]);
  const c = node(g, "Gelu", [b]);
  g.output(g.add(c, a), "y"); // x, a, b and c exist together
  expect(runMemory(g.finish(), new Map()).peakBytes).toBe(4 * 400);
});

test("describes sites, parameters and memory", () => {
  const description = describeModel(tinyModel(), { wantedOutput: "logits", batch: 4, tokens: 16 });
  expect(description.sites.filter((s) => s.kind === "linear")).toHaveLength(13);
  expect(description.operatorsWithoutRule).toEqual([]);
  expect(description.symbolSizes).toEqual({ batch: 4, tokens: 16 });
  // 11 * 8 embedding; norms 2 * (8 + 8 + 8); per layer 4 * 64 + 2 * 8 own biases + 2 * 96 + 12 + 8, once the shared 8; 3 * 8 + 3; two constants of the graph
  const linear = 2 * (4 * 64 + 16 + 192 + 20) + 8 + 27;
  expect(description.parameters).toEqual({
    total: 88 + 48 + linear + 2,
    byKind: { embedding: 88, norm: 48, conv: 0, experts: 0, linear },
  });
  const memory = description.memory;
  expect(memory?.trainedParameters).toBe(8 * 2 * (4 * 16 + 2 * 20)); // the head is left out
  const longer = describeModel(tinyModel(), { wantedOutput: "logits", batch: 4, tokens: 32 }).memory;
  expect(longer?.activationBytes).toBeGreaterThan(1.8 * (memory?.activationBytes ?? 0));
  const text = formatDescription(description);
  expect(text).toContain("encoder.layer.*.attention.self.query");
  expect(text).toMatch(/memory to train 1,664 values \(batch 4, tokens 16\): about \d+ MB/);
});

test("packed weights count as what they stand for, and say how they are stored", () => {
  const { model, sites } = quantizeModel(tinyModel(), { type: "int4", blockSize: 16 });
  const [packed, plain] = [describeModel(model), describeModel(tinyModel())];
  expect(packed.parameters).toEqual(plain.parameters);
  const saved = sites.reduce((sum, { bytesBefore, bytesAfter }) => sum + bytesBefore - bytesAfter, 0);
  // The backward has a table of 256 x 2 numbers and some shapes beside; what the kernels pack is there once more, the head too.
  const table = 4 * 256 * 2 + 512;
  const copies = sites.reduce((sum, { bytesAfter }) => sum + bytesAfter, 0) + 4 * 8 * 3;
  expect(plain.memory!.weightBytes - packed.memory!.weightBytes).toBeGreaterThan(saved - table - copies);
  expect(formatDescription(packed)).toMatch(/self\.query +2 +linear +8 to 8 +bias +MatMulNBits, 4 bits/);
});

test("names operators in the way and then gives no estimate", () => {
  const model = tinyModel();
  const at = model.graph.nodes.findIndex((n) => n.op === "Tanh");
  const nodes = model.graph.nodes.map((n, i) => (i === at ? { ...n, op: "Mystery", name: "odd" } : n));
  const odd: Model = { ...model, graph: { ...model.graph, nodes } };
  const description = describeModel(odd, { wantedOutput: "logits" });
  expect([...description.unknownOperators, ...description.operatorsWithoutRule]).toContainEqual({
    operator: "Mystery",
    count: 1,
    example: "odd",
  });
  expect(description.memory).toBeNull();
  expect(formatDescription(description)).toContain("Mystery x1 (odd)");
});

test("refuses an output that is not there", () => {
  expect(() => describeModel(tinyModel(), { wantedOutput: "logit" })).toThrow(
    expect.objectContaining({ code: "UNKNOWN_OUTPUT" }),
  );
  const g = createBuilder();
  g.output(g.input("x", "int64", [1]), "y");
  expect(() => describeModel(toModel(g.finish(), 21))).toThrow(PeftError);
});
