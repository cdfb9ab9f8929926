import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tensor } from "onnxruntime-node";
import { afterAll, expect, test } from "vitest";
import { decodeModel } from "./decode.ts";
import type { ElementType } from "./element-type.ts";
import type { Attribute, Model } from "./ir.ts";
import { readModel } from "./read.ts";
import { attributeFields, graphFields, modelFields, nodeFields, tensorFields } from "./schema.ts";
import { readTensorBytes, stringTensor, tensorFrom, toNumbers } from "./tensor.ts";
import { graph, model, node, value } from "./testing/models.ts";
import { run } from "./testing/run.ts";
import * as wire from "./testing/wire.ts";
import { isUndeclared } from "./unknown-shape.ts";
import { encodeModel } from "./write.ts";

const folder = mkdtempSync(join(tmpdir(), "read-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const save = (bytes: Uint8Array): string => {
  const path = join(folder, `${files++}.onnx`);
  writeFileSync(path, bytes);
  return path;
};

const mlp = (): Model =>
  model({
    nodes: [
      node("MatMul", ["x", "w1"], ["h"], {}, { metadata: { "pkg.torch.onnx.name_scopes": "['', 'fc']" } }),
      node("Add", ["h", "b1"], ["h1"]),
      node("Erf", ["h1"], ["h2"]),
      node("LayerNormalization", ["h2", "g", "b1"], ["n", "", "inv"], {
        axis: { type: "int", value: -1 },
        epsilon: { type: "float", value: Math.fround(1e-5) },
      }),
      node("ReduceSum", ["n", "axes"], ["y"], { keepdims: { type: "int", value: 0 } }),
    ],
    inputs: [value("x", ["batch", 4])],
    outputs: [value("y", ["batch"]), value("inv", ["batch", 1])],
    initializers: new Map([
      [
        "w1",
        tensorFrom(
          "float32",
          [4, 64],
          Float32Array.from({ length: 256 }, (_, i) => Math.sin(i)),
        ),
      ],
      [
        "b1",
        tensorFrom(
          "float32",
          [64],
          Float32Array.from({ length: 64 }, (_, i) => Math.cos(i)),
        ),
      ],
      [
        "g",
        tensorFrom(
          "float32",
          [64],
          Float32Array.from({ length: 64 }, (_, i) => 1 + i / 64),
        ),
      ],
      ["axes", tensorFrom("int64", [1], [-1])],
    ]),
    values: new Map([["h", { type: "float32", shape: ["batch", 64] }]]),
  });

test("a model read and written back gives bit-equal outputs, from memory and from a file", async () => {
  const bytes = encodeModel(mlp());
  const feeds = {
    x: new Tensor(
      "float32",
      Float32Array.from({ length: 12 }, (_, i) => i / 5 - 1),
      [3, 4],
    ),
  };
  const expected = await run(bytes, feeds);
  const fromMemory = encodeModel(decodeModel(bytes));
  const read = await readModel(save(bytes), { rangeThreshold: 256 });
  expect(read.graph.initializers.get("w1")?.data).not.toBeInstanceOf(Uint8Array);
  expect(read.graph.initializers.get("axes")?.data).toBeInstanceOf(Uint8Array);
  const fromFile = encodeModel(read);
  expect(fromFile).toEqual(fromMemory);
  expect(await run(fromMemory, feeds)).toEqual(expected);
});

test("everything of the IR survives the file", () => {
  const original = model(mlp().graph, {
    opsets: new Map([
      ["", 17],
      ["com.microsoft", 1],
    ]),
    metadata: new Map([["note", "grün"]]),
    producer: { name: "pytorch", version: "2.13" },
  });
  const read = decodeModel(encodeModel(original));
  original.graph.values.set("x", { type: "float32", shape: ["batch", 4] });
  original.graph.values.set("y", { type: "float32", shape: ["batch"] });
  original.graph.values.set("inv", { type: "float32", shape: ["batch", 1] });
  expect(read).toEqual(original);
});

test("weights are views into the bytes given", () => {
  const bytes = encodeModel(mlp());
  const { data } = decodeModel(bytes).graph.initializers.get("w1")!;
  expect((data as Uint8Array).buffer).toBe(bytes.buffer);
});

test("every type of attribute survives", () => {
  const tensor = tensorFrom("int64", [2], [1, -1]);
  const body = graph({ name: "body", nodes: [node("Identity", ["x"], ["inner"])], outputs: [value("inner", [2])] });
  body.values.set("inner", { type: "float32", shape: [2] });
  const attributes: Record<string, Attribute> = {
    float: { type: "float", value: Math.fround(-0.1) },
    zero: { type: "float", value: 0 },
    infinite: { type: "float", value: Number.NEGATIVE_INFINITY },
    int: { type: "int", value: -3 },
    large: { type: "int", value: 2n ** 63n - 1n },
    string: { type: "string", value: "reflect" },
    binary: { type: "string", value: new Uint8Array([0xff, 0x00]) },
    tensor: { type: "tensor", value: tensor },
    graph: { type: "graph", value: body },
    floats: { type: "floats", value: [1, 2.5, -0] },
    ints: { type: "ints", value: [1, -2, -(2n ** 63n)] },
    none: { type: "ints", value: [] },
    strings: { type: "strings", value: ["a", "", new Uint8Array([0xc0])] },
    tensors: { type: "tensors", value: [tensor, stringTensor([2], ["p", "ü"])] },
    graphs: { type: "graphs", value: [body, body] },
  };
  const bytes = encodeModel(
    model({
      nodes: [node("Custom", ["x"], ["y"], attributes, { domain: "test" })],
      inputs: [value("x", [2])],
      outputs: [value("y", [2])],
    }),
  );
  expect(decodeModel(bytes).graph.nodes[0]?.attributes).toEqual(attributes);
});

test("attributes without a type number, and unpacked lists, are understood", () => {
  const f = attributeFields;
  const bytes = wire.modelBytes([
    wire.nodePiece(
      "Op",
      ["x"],
      ["y"],
      wire.attributePiece("i", 0, wire.int(f.int, 5)),
      wire.attributePiece("f", 0, wire.float(f.float, 0.5)),
      wire.attributePiece("s", 0, wire.text(f.string, "t")),
      wire.attributePiece("is", 0, wire.int(f.ints, 1), wire.int(f.ints, -2)),
      wire.attributePiece(
        "fs",
        6,
        wire.float(f.floats, 1),
        wire.packed(f.floats, (w) => w.float(2).float(3)),
      ),
      wire.attributePiece("d", 2),
    ),
    wire.valuePiece(graphFields.input, "x", [1]),
    wire.valuePiece(graphFields.output, "y", [1]),
  ]);
  expect(decodeModel(bytes).graph.nodes[0]?.attributes).toEqual({
    i: { type: "int", value: 5 },
    f: { type: "float", value: 0.5 },
    s: { type: "string", value: "t" },
    is: { type: "ints", value: [1, -2] },
    fs: { type: "floats", value: [1, 2, 3] },
    d: { type: "int", value: 0 },
  });
});

test("typed data fields become bytes", async () => {
  const t = tensorFields;
  const int32 = (...values: number[]): wire.Piece =>
    wire.packed(t.int32Data, (w) => {
      for (const entry of values) w.int32(entry);
    });
  const cases: [ElementType, wire.Piece, number[]][] = [
    ["float32", wire.packed(t.floatData, (w) => w.float(1.5).float(-2).float(3)), [1.5, -2, 3]],
    ["float64", wire.packed(t.doubleData, (w) => w.double(0.1).double(2).double(-3)), [0.1, 2, -3]],
    [
      "int64",
      wire.packed(t.int64Data, (w) =>
        w
          .int64(-1)
          .int64(2 ** 40)
          .int64(3),
      ),
      [-1, 2 ** 40, 3],
    ],
    [
      "uint64",
      wire.packed(t.uint64Data, (w) =>
        w
          .uint64(1)
          .uint64(2 ** 40)
          .uint64(3),
      ),
      [1, 2 ** 40, 3],
    ],
    [
      "uint32",
      wire.packed(t.uint64Data, (w) =>
        w
          .uint64(1)
          .uint64(2 ** 32 - 1)
          .uint64(3),
      ),
      [1, 2 ** 32 - 1, 3],
    ],
    ["int32", int32(-1, 2 ** 31 - 1, -(2 ** 31)), [-1, 2 ** 31 - 1, -(2 ** 31)]],
    ["int16", int32(-32768, 1, 2), [-32768, 1, 2]],
    ["uint16", int32(65535, 1, 2), [65535, 1, 2]],
    ["int8", int32(-128, 1, 2), [-128, 1, 2]],
    ["uint8", int32(255, 1, 2), [255, 1, 2]],
    ["bool", int32(1, 0, 1), [1, 0, 1]],
    ["float16", int32(0x3c00, 0xc000, 0), [1, -2, 0]],
    ["bfloat16", int32(0x3f80, 0xc000, 0), [1, -2, 0]],
    ["int4", int32(0x2f, 0x0d), [-1, 2, -3]],
    ["uint4", int32(0x2f, 0x0d), [15, 2, 13]],
  ];
  const bytes = wire.modelBytes(
    wire.identityGraph(...cases.map(([type, data]) => wire.initializer(type, type, [3], data))),
  );
  for (const read of [decodeModel(bytes), await readModel(save(bytes), { rangeThreshold: 1 })]) {
    for (const [type, , expected] of cases)
      expect(toNumbers(read.graph.initializers.get(type)!), type).toEqual(expected);
  }
  const unpacked = wire.modelBytes(
    wire.identityGraph(
      wire.initializer("f", "float32", [2], wire.float(t.floatData, 4), wire.float(t.floatData, 5)),
      wire.initializer("i", "int64", [2], wire.int(t.int64Data, -4), wire.int(t.int64Data, 5)),
      wire.initializer("s", "string", [2], wire.text(t.stringData, "a"), wire.text(t.stringData, "ß")),
    ),
  );
  const { initializers } = decodeModel(unpacked).graph;
  expect(toNumbers(initializers.get("f")!)).toEqual([4, 5]);
  expect(toNumbers(initializers.get("i")!)).toEqual([-4, 5]);
  expect(initializers.get("s")!.strings).toEqual(["a", "ß"]);
});

test("shapes: numbers, symbols, unknown sizes, unknown ranks", () => {
  const bytes = wire.modelBytes([
    wire.nodePiece("Op", ["x"], ["a"]),
    wire.nodePiece("Op", ["a"], ["b"]),
    wire.nodePiece("Op", ["b"], ["y"]),
    wire.valuePiece(graphFields.input, "x", ["batch", 3, null, -1, ""]),
    wire.valuePiece(graphFields.valueInfo, "a", ["?b.0", 1]),
    wire.valuePiece(graphFields.valueInfo, "b"),
    wire.valuePiece(graphFields.output, "y"),
  ]);
  const { graph: read } = decodeModel(bytes);
  expect(read.inputs[0]?.shape).toEqual(["batch", 3, "?x.2", "?x.3", "?x.4"]);
  expect(read.values.get("a")?.shape).toEqual(["?a.0", 1]);
  expect([read.values.has("b"), read.values.has("y"), read.outputs[0]?.shape]).toEqual([false, false, ["..."]]);
  const again = decodeModel(encodeModel(decodeModel(bytes)));
  expect(again.graph).toEqual(read);
});

test("ai.onnx is the default domain, unknown fields are skipped, nodes are sorted", () => {
  const bytes = wire.modelBytes(
    [
      wire.nodePiece("Neg", ["h"], ["y"], wire.text(nodeFields.domain, "ai.onnx"), wire.text(99, "future")),
      wire.nodePiece("Abs", ["x"], ["h"]),
      wire.valuePiece(graphFields.input, "x", [1]),
      wire.valuePiece(graphFields.output, "y", [1]),
      wire.float(77, 1),
      wire.int(78, 5),
    ],
    [wire.opset(11, "ai.onnx"), wire.text(1000, "future")],
  );
  const read = decodeModel(bytes);
  expect(read.opsets).toEqual(new Map([["", 11]]));
  expect(read.graph.nodes.map(({ op, domain }) => [op, domain])).toEqual([
    ["Abs", ""],
    ["Neg", ""],
  ]);
});

test("before IR version 4 initializers are no inputs; later they may be defaults", () => {
  const pieces = [
    wire.nodePiece("Add", ["x", "w"], ["y"]),
    wire.valuePiece(graphFields.input, "x", [1]),
    wire.valuePiece(graphFields.input, "w", [1]),
    wire.valuePiece(graphFields.output, "y", [1]),
    wire.initializer("w", "float32", [1], wire.raw(new Uint8Array(4))),
  ];
  const names = (irVersion: number): string[] =>
    decodeModel(wire.modelBytes(pieces, undefined, irVersion)).graph.inputs.map(({ name }) => name);
  expect(names(3)).toEqual(["x"]);
  expect(names(8)).toEqual(["x", "w"]);
});

const branch = (name: string, op: string): Attribute => ({
  type: "graph",
  value: graph({
    name,
    nodes: [node(op, ["h"], [`${name}_h`]), node("Mul", [`${name}_h`, `${name}_w`], [`${name}_y`])],
    outputs: [value(`${name}_y`, ["n"])],
    initializers: new Map([[`${name}_w`, tensorFrom("float32", [1], [3])]]),
  }),
});

test("sub-graphs read outer values, and their nodes count for the order", async () => {
  const original = model({
    nodes: [
      node("If", ["cond"], ["y"], { then_branch: branch("then", "Neg"), else_branch: branch("else", "Abs") }),
      node("Exp", ["x"], ["h"]),
    ],
    inputs: [value("x", ["n"]), value("cond", [], "bool")],
    outputs: [value("y", ["n"])],
  });
  const read = decodeModel(encodeModel(original));
  expect(read.graph.nodes.map(({ op }) => op)).toEqual(["Exp", "If"]);
  const feeds = (flag: boolean) => ({ x: new Tensor("float32", [0, 0], [2]), cond: new Tensor("bool", [flag], []) });
  const bytes = encodeModel(read);
  expect(await run(bytes, feeds(true))).toMatchObject({ y: { data: new Float32Array([-3, -3]) } });
  expect(await run(bytes, feeds(false))).toMatchObject({ y: { data: new Float32Array([3, 3]) } });
});

test("a sub-graph output without a type stays without one", () => {
  const then = wire.message(
    wire.text(graphFields.name, "then"),
    wire.nodePiece("Identity", ["x"], ["t"]),
    wire.inner(graphFields.output, wire.text(1, "t")),
  );
  const bytes = wire.modelBytes([
    wire.nodePiece("If", ["x"], ["y"], wire.attributePiece("then_branch", 5, wire.bytes(attributeFields.graph, then))),
    wire.valuePiece(graphFields.input, "x", [], "bool"),
    wire.valuePiece(graphFields.output, "y", []),
  ]);
  const read = decodeModel(bytes);
  const attribute = read.graph.nodes[0]!.attributes["then_branch"]!;
  expect(attribute.type === "graph" && isUndeclared(attribute.value.outputs[0]!.shape)).toBe(true);
  expect(decodeModel(encodeModel(read))).toEqual(read);
});

test("a file of 1.9 GB is read without its weights", async () => {
  const count = 475_000_000;
  const head = wire.message(...wire.tensorPieces("w", "float32", [count]), (w) =>
    w.tag(tensorFields.rawData, 2).uint32(count * 4),
  );
  const before = wire.message(...wire.identityGraph(), (w) =>
    w
      .tag(graphFields.initializer, 2)
      .uint32(head.length + count * 4)
      .raw(head),
  );
  const after = wire.message(wire.initializer("v", "int64", [1], wire.raw(new Uint8Array([7, 0, 0, 0, 0, 0, 0, 0]))));
  const top = wire.message(wire.int(modelFields.irVersion, 8), wire.opset(17), (w) =>
    w
      .tag(modelFields.graph, 2)
      .uint32(before.length + count * 4 + after.length)
      .raw(before),
  );
  const path = join(folder, "large.onnx");
  const file = openSync(path, "w");
  writeSync(file, top);
  ftruncateSync(file, top.length + count * 4);
  writeSync(file, after, 0, after.length, top.length + count * 4);
  closeSync(file);
  expect(statSync(path).size).toBeGreaterThan(1.9e9);
  const memory = process.memoryUsage().rss;
  const { graph: read } = await readModel(path);
  expect(read.initializers.get("w")?.data).toEqual({ path, offset: top.length, length: count * 4 });
  expect(Array.from(readTensorBytes(read.initializers.get("v")!))).toEqual([7, 0, 0, 0, 0, 0, 0, 0]);
  expect(process.memoryUsage().rss - memory).toBeLessThan(20e6);
});
