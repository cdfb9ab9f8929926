import { Tensor } from "onnxruntime-node";
import { expect, test } from "vitest";
import { decodeModel } from "./decode.ts";
import { attributeFields, functionFields, graphFields, modelFields, nodeFields } from "./schema.ts";
import { run } from "./testing/run.ts";
import * as wire from "./testing/wire.ts";
import { encodeModel } from "./write.ts";

/** Function `scaled(a, b; factor = 2) = (out: a * factor + |b|, same: a)`, calling function `size`. */
const functionPieces = (calls: string): wire.Piece[] => {
  const f = functionFields;
  const reference = wire.inner(
    nodeFields.attribute,
    wire.text(attributeFields.name, "value_float"),
    wire.text(attributeFields.refAttrName, "factor"),
    wire.int(attributeFields.type, 1),
  );
  return [
    wire.inner(
      modelFields.functions,
      wire.text(f.name, "scaled"),
      wire.text(f.domain, "local"),
      wire.text(f.input, "a"),
      wire.text(f.input, "b"),
      wire.text(f.output, "out"),
      wire.inner(
        f.attributeDefault,
        wire.text(attributeFields.name, "factor"),
        wire.float(attributeFields.float, 2),
        wire.int(attributeFields.type, 1),
      ),
      wire.bytes(f.node, nodeContent("Constant", [], ["c"], reference)),
      wire.bytes(f.node, nodeContent("Mul", ["a", "c"], ["m"])),
      wire.bytes(f.node, nodeContent(calls, ["b"], ["s"], wire.text(nodeFields.domain, "local"))),
      wire.bytes(f.node, nodeContent("Add", ["m", "s"], ["out"])),
      wire.inner(f.opsetImport, wire.int(2, 17)),
      wire.inner(f.opsetImport, wire.text(1, "local"), wire.int(2, 1)),
    ),
    wire.inner(
      modelFields.functions,
      wire.text(f.name, "size"),
      wire.text(f.domain, "local"),
      wire.text(f.input, "m"),
      wire.text(f.output, "out"),
      wire.bytes(f.node, nodeContent("Abs", ["m"], ["out"])),
      wire.inner(f.opsetImport, wire.int(2, 17)),
    ),
    wire.opset(17),
    wire.opset(1, "local"),
  ];
};

const { local, nodeContent } = wire;

test("functions are inlined: same outputs as in ONNX Runtime, calls nested, attributes and defaults bound", async () => {
  const factor = wire.attributePiece("factor", 1, wire.float(attributeFields.float, 10));
  const bytes = wire.modelBytes(
    [
      wire.nodePiece("scaled", ["x", "x"], ["m"], local, wire.text(nodeFields.name, "first"), factor),
      wire.nodePiece("scaled", ["x", "m"], ["y"], local, wire.text(nodeFields.name, "second")),
      wire.valuePiece(graphFields.input, "x", ["n"]),
      wire.valuePiece(graphFields.output, "y", ["n"]),
    ],
    functionPieces("size"),
  );
  const read = decodeModel(bytes);
  expect(read.graph.nodes.map(({ op }) => op).sort()).toEqual([
    "Abs",
    "Abs",
    "Add",
    "Add",
    "Constant",
    "Constant",
    "Mul",
    "Mul",
  ]);
  expect(read.graph.nodes.every(({ name }) => /^(first|second)\//.test(name))).toBe(true);
  expect(read.opsets).toEqual(new Map([["", 17]]));
  const feeds = { x: new Tensor("float32", [1, -2], [2]) };
  const inlined = await run(encodeModel(read), feeds);
  expect(inlined).toEqual(await run(bytes, feeds));
  expect(inlined).toMatchObject({ y: { data: new Float32Array([13, 14]) } });
});

test("a function that calls itself is refused by name", () => {
  const bytes = wire.modelBytes(
    [
      wire.nodePiece("scaled", ["x"], ["y"], local),
      wire.valuePiece(graphFields.input, "x", ["n"]),
      wire.valuePiece(graphFields.output, "y", ["n"]),
    ],
    functionPieces("scaled"),
  );
  expect(() => decodeModel(bytes)).toThrow('function "scaled" calls itself');
});
