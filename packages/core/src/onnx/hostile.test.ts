import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WireType } from "@bufbuild/protobuf/wire";
import { afterAll, expect, test } from "vitest";
import { PeftError } from "../errors.ts";
import { seededRandom } from "../testing/fuzz/seeded-random.ts";
import { decodeModel } from "./decode.ts";
import type { Attribute, Graph } from "./ir.ts";
import type { Limits } from "./limits.ts";
import { readModel } from "./read.ts";
import { attributeFields, graphFields, modelFields, nodeFields, tensorFields } from "./schema.ts";
import { stringTensor, tensorFrom } from "./tensor.ts";
import { errorOf } from "./testing/errors.ts";
import { graph, model, node, value } from "./testing/models.ts";
import * as wire from "./testing/wire.ts";
import { encodeModel } from "./write.ts";

const folder = mkdtempSync(join(tmpdir(), "hostile-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const refused = (bytes: Uint8Array, limits: Partial<Limits> = {}): PeftError =>
  errorOf(() => decodeModel(bytes, { limits }));
const refusedGraph = (...pieces: wire.Piece[]): PeftError => refused(wire.modelBytes(pieces));
const edges = [wire.valuePiece(graphFields.input, "x", [1]), wire.valuePiece(graphFields.output, "y", [1])];

/** A small model with a bit of everything. */
function sample(): Uint8Array {
  const body: Attribute = {
    type: "graph",
    value: graph({
      nodes: [node("Mul", ["h", "half"], ["b"])],
      outputs: [value("b", ["n"])],
      initializers: new Map([["half", tensorFrom("float16", [1], [0.5])]]),
    }),
  };
  return encodeModel(
    model(
      {
        nodes: [
          node("Add", ["x", "w"], ["h"], {}, { metadata: { scope: "fc" } }),
          node("If", ["c"], ["y"], { then_branch: body, else_branch: body }),
          node("Op", ["y"], ["z"], {
            a: { type: "ints", value: [1, -2] },
            b: { type: "floats", value: [0.5] },
            c: { type: "strings", value: ["s"] },
            d: { type: "tensor", value: stringTensor([1], ["text"]) },
          }),
        ],
        inputs: [value("x", ["n"]), value("c", [], "bool")],
        outputs: [value("z", ["n"])],
        initializers: new Map([["w", tensorFrom("float32", [3], [1, 2, 3])]]),
        values: new Map([["h", { type: "float32", shape: ["n"] }]]),
      },
      { metadata: new Map([["k", "v"]]) },
    ),
  );
}

test("a file cut off at any byte is refused, from memory and from disk", async () => {
  const bytes = sample();
  decodeModel(bytes);
  const path = join(folder, "cut.onnx");
  for (let length = 0; length < bytes.length; length++) {
    const { code } = refused(bytes.subarray(0, length));
    expect(["ONNX_TRUNCATED", "ONNX_INVALID"], `${length}`).toContain(code);
    writeFileSync(path, bytes.subarray(0, length));
    const error = await readModel(path).then(
      () => null,
      (cause: unknown) => cause,
    );
    expect(error, `${length}`).toBeInstanceOf(PeftError);
    expect((error as PeftError).code).toBe(code);
  }
  expect(refused(bytes.subarray(0, bytes.length - 1))).toMatchObject({
    code: "ONNX_TRUNCATED",
    message: expect.stringMatching(/byte \d+/),
  });
});

test("4000 damaged files are read or refused, never anything else", () => {
  const original = sample();
  const random = seededRandom(7);
  const below = (limit: number): number => Math.floor(random() * limit);
  let accepted = 0;
  for (let i = 0; i < 4000; i++) {
    let bytes = original.slice();
    for (let changes = 1 + below(4); changes > 0; changes--) {
      const at = below(bytes.length);
      const kind = below(4);
      if (kind === 0) bytes[at] = below(256);
      else if (kind === 1) bytes[at] = bytes[at]! ^ (1 << below(8));
      else if (kind === 2) bytes = new Uint8Array([...bytes.subarray(0, at), ...bytes.subarray(at + 1 + below(8))]);
      else bytes = new Uint8Array([...bytes.subarray(0, at), below(256), 0xff, ...bytes.subarray(at)]);
      if (bytes.length === 0) bytes = original.slice();
    }
    try {
      const read = decodeModel(bytes, { folder });
      accepted++;
      encodeModel(read);
    } catch (error) {
      if (!(error instanceof PeftError)) throw new Error(`input ${i}: ${String(error)}`, { cause: error });
      // A fallback for defects of the reader itself: none of these inputs may reach it.
      expect(error.message, `input ${i}`).not.toContain("could not be decoded");
    }
  }
  expect(accepted).toBeGreaterThan(100);
  expect(accepted).toBeLessThan(3500);
});

test("what is no ONNX file is refused", () => {
  for (const content of ["", "hello, this is text", "<!doctype html><html>", "PK\u0003\u0004zip", '{"json": 1}']) {
    expect(["ONNX_INVALID", "ONNX_TRUNCATED"], content).toContain(refused(new TextEncoder().encode(content)).code);
  }
  expect(["ONNX_INVALID", "ONNX_TRUNCATED"]).toContain(refused(new Uint8Array(1000).fill(0xff)).code);
  expect(refused(new Uint8Array(1000)).code).toBe("ONNX_INVALID");
});

test("wrong lengths and wire types are refused with their position", () => {
  const longer = wire.message((w) => w.tag(modelFields.graph, WireType.LengthDelimited).uint32(2 ** 31));
  expect(refused(longer)).toMatchObject({ code: "ONNX_TRUNCATED", details: { position: 0, where: "model" } });
  const overlong = new Uint8Array([0x3a, 0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 1, 2, 3, 4, 5]);
  expect(refused(overlong).code).toBe("ONNX_INVALID");
  expect(refused(new Uint8Array([0x08, ...new Array(11).fill(0x80)])).code).toBe("ONNX_TRUNCATED");
  expect(refused(new Uint8Array([0x3b, 0x3c])).message).toContain("groups");
  expect(refused(wire.message(wire.int(modelFields.graph, 5))).code).toBe("ONNX_INVALID");
  expect(refusedGraph(...edges, wire.int(graphFields.node, 5)).message).toContain("graph.node[0]");
  const leak = wire.nodePiece("Op", ["x"], ["y"], (w) => w.tag(nodeFields.name, WireType.LengthDelimited).uint32(200));
  expect(refusedGraph(leak, ...edges)).toMatchObject({
    code: "ONNX_TRUNCATED",
    message: expect.stringContaining("graph.node[0]"),
  });
});

test("deep nesting is refused without exhausting the stack", () => {
  let content = wire.message(wire.text(graphFields.name, "leaf"));
  for (let depth = 0; depth < 5000; depth++) {
    const branch = wire.attributePiece("then_branch", 5, wire.bytes(attributeFields.graph, content));
    content = wire.message(wire.nodePiece("If", ["x"], ["y"], branch));
  }
  const error = refused(
    wire.message(wire.int(modelFields.irVersion, 8), wire.opset(17), wire.bytes(modelFields.graph, content)),
  );
  expect(error).toMatchObject({ code: "ONNX_LIMIT", message: expect.stringContaining("nested graphs") });
});

test("dimensions that are negative, absurd, too many, or do not fit the data are refused", () => {
  const four = wire.raw(new Uint8Array(4));
  const cases: [string, wire.Piece][] = [
    ["ONNX_LIMIT", wire.initializer("w", "float32", [-1], four)],
    ["ONNX_LIMIT", wire.initializer("w", "float32", [2n ** 62n], four)],
    ["ONNX_LIMIT", wire.initializer("w", "float32", [2 ** 30, 2 ** 30], four)],
    ["ONNX_LIMIT", wire.initializer("w", "float32", new Array(100).fill(1), four)],
    ["ONNX_INVALID", wire.initializer("w", "float32", [2 ** 39], four)],
    ["ONNX_INVALID", wire.initializer("w", "float32", [2], four)],
    ["ONNX_INVALID", wire.initializer("w", "float32", [2 ** 31])],
    [
      "ONNX_INVALID",
      wire.initializer(
        "w",
        "int64",
        [2],
        wire.packed(tensorFields.int64Data, (w) => w.int64(1)),
      ),
    ],
    [
      "ONNX_INVALID",
      wire.initializer(
        "w",
        "float32",
        [1],
        wire.packed(tensorFields.int64Data, (w) => w.int64(1)),
      ),
    ],
    [
      "ONNX_INVALID",
      wire.initializer(
        "w",
        "int8",
        [1],
        wire.packed(tensorFields.int32Data, (w) => w.int32(300)),
      ),
    ],
    [
      "ONNX_INVALID",
      wire.initializer(
        "w",
        "float32",
        [1],
        four,
        wire.packed(tensorFields.floatData, (w) => w.float(1)),
      ),
    ],
    ["ONNX_INVALID", wire.initializer("w", "string", [2], wire.text(tensorFields.stringData, "one"))],
    ["ONNX_UNSUPPORTED", wire.initializer("w", "float32", [1], wire.bytes(tensorFields.segment, new Uint8Array(0)))],
    ["UNKNOWN_ELEMENT_TYPE", wire.inner(graphFields.initializer, wire.int(tensorFields.dataType, 99))],
    ["ONNX_LIMIT", wire.valuePiece(graphFields.valueInfo, "v", [-5])],
    ["ONNX_LIMIT", wire.valuePiece(graphFields.valueInfo, "v", [2n ** 60n])],
    ["ONNX_LIMIT", wire.valuePiece(graphFields.valueInfo, "v", new Array(100).fill(1))],
    ["ONNX_LIMIT", wire.valuePiece(graphFields.valueInfo, "v".repeat(20_000), [1])],
  ];
  for (const [code, piece] of cases) {
    const error = refusedGraph(...wire.identityGraph(piece));
    expect(error.code, error.message).toBe(code);
    expect(error.message).toMatch(/graph\.(initializer|value_info)\[0\]/);
  }
});

test("limits can be lowered and say what they count", () => {
  const bytes = sample();
  expect(refused(bytes, { maxNodes: 3 })).toMatchObject({ code: "ONNX_LIMIT", details: { what: "nodes", limit: 3 } });
  expect(refused(bytes, { maxBytes: bytes.length - 1 }).code).toBe("ONNX_LIMIT");
  expect(refused(bytes, { maxNesting: 1 }).code).toBe("ONNX_LIMIT");
  expect(refused(bytes, { maxNameLength: 3 }).code).toBe("ONNX_LIMIT");
  expect(() => decodeModel(bytes, { limits: { maxNodes: 5, maxBytes: bytes.length } })).not.toThrow();
});

test("many tiny fields and equal names cost no more than their number", () => {
  const ints = wire.attributePiece("a", 7, wire.bytes(attributeFields.ints, new Uint8Array(5000)));
  const list = wire.modelBytes([wire.nodePiece("Op", ["x"], ["y"], ints), ...edges]);
  expect(refused(list, { maxFields: 4000 })).toMatchObject({
    code: "ONNX_LIMIT",
    message: expect.stringContaining("attribute[0]"),
  });
  expect(() => decodeModel(list, { limits: { maxFields: 6000 } })).not.toThrow();
  const same = wire.valuePiece(graphFields.valueInfo, "v", [null]);
  const values: wire.Piece = (w) => {
    for (let i = 0; i < 100_000; i++) same(w);
  };
  const attributes: wire.Piece = (w) => {
    for (let i = 0; i < 100_000; i++) wire.attributePiece(`a${i}`, 2)(w);
  };
  // Quadratic time would run into the time limit of the test.
  decodeModel(wire.modelBytes(wire.identityGraph(values)));
  decodeModel(wire.modelBytes([wire.nodePiece("Op", ["x"], ["y"], attributes), ...edges]));
});

test("versions outside the range, and a missing version, are refused", () => {
  for (const version of [10, 25]) {
    const error = refused(wire.modelBytes(wire.identityGraph(), [wire.opset(version)]));
    expect([error.code, error.message]).toEqual(["ONNX_UNSUPPORTED", expect.stringContaining(`received ${version}`)]);
  }
  for (const version of [11, 24]) {
    expect(() => decodeModel(wire.modelBytes(wire.identityGraph(), [wire.opset(version)]))).not.toThrow();
  }
  expect(refused(wire.modelBytes(wire.identityGraph(), [])).code).toBe("ONNX_INVALID");
  expect(refused(wire.modelBytes(wire.identityGraph(), [wire.opset(17), wire.opset(18, "ai.onnx")])).code).toBe(
    "ONNX_INVALID",
  );
  expect(refused(wire.modelBytes(wire.identityGraph(), undefined, 0)).message).toContain("ir_version");
});

test("training information, sparse tensors and values that are no tensors are refused by name", () => {
  const sequence = wire.inner(graphFields.valueInfo, wire.text(1, "s"), wire.inner(2, wire.inner(4)));
  expect(refusedGraph(...wire.identityGraph(sequence))).toMatchObject({
    code: "ONNX_UNSUPPORTED",
    message: expect.stringContaining('"s" of graph is a sequence'),
  });
  const optional = wire.inner(graphFields.input, wire.text(1, "o"), wire.inner(2, wire.inner(9)));
  expect(refusedGraph(...wire.identityGraph(optional)).message).toContain('input "o" (graph.input[1]) is a optional');
  expect(refusedGraph(...wire.identityGraph(wire.inner(graphFields.sparseInitializer))).code).toBe("ONNX_UNSUPPORTED");
  expect(
    refused(wire.modelBytes(wire.identityGraph(), [wire.opset(17), wire.inner(modelFields.trainingInfo)])).code,
  ).toBe("ONNX_UNSUPPORTED");
  const sparse = wire.attributePiece("sparse_value", 11, wire.inner(attributeFields.sparseTensor));
  expect(refusedGraph(wire.nodePiece("Constant", [], ["y"], sparse), ...edges).code).toBe("ONNX_UNSUPPORTED");
  expect(refusedGraph(wire.nodePiece("Op", ["x"], ["y"], wire.attributePiece("a", 77)), ...edges).message).toContain(
    "attribute type 77",
  );
});

test("all structural problems are listed in one error", () => {
  const error = refusedGraph(
    wire.nodePiece("Add", ["x", "ghost"], ["y"]),
    wire.nodePiece("Mul", ["phantom", "x"], ["y"]),
    wire.initializer("w", "float32", [0]),
    wire.initializer("w", "float32", [0]),
    ...edges,
  );
  // The double initializer is found while reading, before names are resolved.
  expect(error).toMatchObject({
    code: "ONNX_INVALID",
    message: expect.stringContaining('initializer "w" of graph occurs twice'),
  });
  const unresolved = refusedGraph(
    wire.nodePiece("Add", ["x", "ghost"], ["y"]),
    wire.nodePiece("Mul", ["phantom", "x"], ["y"]),
    wire.valuePiece(graphFields.output, "nothing", [1]),
    wire.valuePiece(graphFields.input, "x", [1]),
    ...edges,
  );
  for (const part of [
    'reads "ghost"',
    'reads "phantom"',
    '"y" is defined again',
    'output "nothing"',
    '"x" is defined again by an input',
  ]) {
    expect(unresolved.message).toContain(part);
  }
  expect(unresolved.details["problems"]).toHaveLength(5);
});

test("inputs without a rank, nodes without an operator and repeated attributes are refused", () => {
  const error = refusedGraph(
    wire.nodePiece(
      "",
      ["x"],
      ["y"],
      wire.attributePiece("a", 2),
      wire.attributePiece("a", 2),
      wire.attributePiece("__proto__", 2),
    ),
    wire.valuePiece(graphFields.input, "x"),
    wire.valuePiece(graphFields.output, "y", [1]),
  );
  for (const part of [
    "has no op_type",
    '"a" occurs twice',
    '"__proto__" is no name',
    'input "x" (graph.input[0]) has no rank',
  ]) {
    expect(error.message).toContain(part);
  }
});

test("a cycle is refused by its nodes, also one that runs through a sub-graph", () => {
  const cycle = refusedGraph(wire.nodePiece("Add", ["x", "b"], ["y"]), wire.nodePiece("Neg", ["y"], ["b"]), ...edges);
  expect(cycle).toMatchObject({ code: "ONNX_INVALID", message: expect.stringMatching(/cycle: .*Add "y".*Neg "b"/) });
  const body: Graph = graph({ nodes: [node("Neg", ["y"], ["t"])], outputs: [value("t", [1])] });
  const attributes: Record<string, Attribute> = { then_branch: { type: "graph", value: body } };
  const hidden = encodeModel(
    model({
      nodes: [node("If", ["x"], ["y"], attributes)],
      inputs: [value("x", [], "bool")],
      outputs: [value("y", [1])],
    }),
  );
  expect(refused(hidden).message).toContain("cycle");
});

test("a long chain in reverse order is sorted without recursion", () => {
  const count = 50_000;
  const nodes = Array.from({ length: count }, (_, i) =>
    wire.nodePiece("Neg", [`v${count - i - 1}`], [`v${count - i}`]),
  );
  const bytes = wire.modelBytes([
    ...nodes,
    wire.valuePiece(graphFields.input, "v0", [1]),
    wire.valuePiece(graphFields.output, `v${count}`, [1]),
  ]);
  const { graph: read } = decodeModel(bytes);
  expect([read.nodes[0]?.inputs, read.nodes.at(-1)?.outputs]).toEqual([["v0"], [`v${count}`]]);
});
