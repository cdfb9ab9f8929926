import { expect, test } from "vitest";
import type { PeftError } from "../errors.ts";
import { decodeModel } from "./decode.ts";
import type { Limits } from "./limits.ts";
import { attributeFields, functionFields, graphFields, nodeFields } from "./schema.ts";
import { errorOf } from "./testing/errors.ts";
import * as wire from "./testing/wire.ts";

const { local, nodeContent, functionPiece } = wire;
const edges = [wire.valuePiece(graphFields.input, "x", [1]), wire.valuePiece(graphFields.output, "y", [1])];
const versions = [wire.opset(17), wire.opset(1, "local")];
const callOf = (name: string, ...more: wire.Piece[]): wire.Piece => wire.nodePiece(name, ["x"], ["y"], local, ...more);
const modelOf = (call: wire.Piece, ...functions: wire.Piece[]): Uint8Array =>
  wire.modelBytes([call, ...edges], [...versions, ...functions]);
const refused = (bytes: Uint8Array, limits: Partial<Limits> = {}): PeftError =>
  errorOf(() => decodeModel(bytes, { limits }));

/** `levels` functions, each calling the one below twice; the lowest has the given nodes from "a" to "c". */
function doubling(levels: number, lowest: readonly Uint8Array[], name = ""): wire.Piece[] {
  const named = wire.text(nodeFields.name, name);
  return Array.from({ length: levels }, (_, i) =>
    functionPiece(
      `f${i}`,
      i === 0
        ? lowest
        : [nodeContent(`f${i - 1}`, ["a"], ["b"], local, named), nodeContent(`f${i - 1}`, ["b"], ["c"], local, named)],
    ),
  );
}

test("functions that multiply are stopped at the node limit", () => {
  const bytes = modelOf(callOf("f29"), ...doubling(30, [nodeContent("Neg", ["a"], ["c"])]));
  expect(refused(bytes, { maxNodes: 10_000 })).toMatchObject({ code: "ONNX_LIMIT", details: { what: "nodes" } });
});

test("functions that call each other in a circle are refused by name", () => {
  const self = modelOf(callOf("f"), functionPiece("f", [nodeContent("f", ["a"], ["c"], local)]));
  expect(refused(self)).toMatchObject({ code: "ONNX_INVALID", message: expect.stringContaining('"f" calls itself') });
  const ring = ["f", "g", "h"].map((name, i) =>
    functionPiece(name, [nodeContent(["g", "h", "f"][i]!, ["a"], ["c"], local)]),
  );
  expect(refused(modelOf(callOf("f"), ...ring)).message).toContain('"f" calls itself');
  const branch = wire.attributePiece(
    "then_branch",
    5,
    wire.inner(attributeFields.graph, wire.bytes(graphFields.node, nodeContent("f", ["a"], ["t"], local))),
  );
  const hidden = modelOf(callOf("f"), functionPiece("f", [nodeContent("If", ["a"], ["c"], branch)]));
  expect(refused(hidden).message).toContain('"f" calls itself');
});

test("a function given twice, with too many operands, or with a free attribute reference is refused", () => {
  const neg = functionPiece("f", [nodeContent("Neg", ["a"], ["c"])]);
  expect(refused(modelOf(callOf("f"), neg, neg)).message).toContain("defined twice");
  const wide = wire.nodePiece("f", ["x", "x"], ["y"], local);
  expect(refused(modelOf(wide, neg)).message).toContain("at most 1 inputs");
  const free = wire.inner(
    nodeFields.attribute,
    wire.text(attributeFields.name, "alpha"),
    wire.text(attributeFields.refAttrName, "slope"),
  );
  expect(refused(modelOf(wire.nodePiece("Elu", ["x"], ["y"], free), neg)).message).toContain("is in none");
});

test("calls nested deeper than graphs may be are refused", () => {
  const chain = Array.from({ length: 50 }, (_, i) =>
    functionPiece(`f${i}`, [
      i === 0 ? nodeContent("Neg", ["a"], ["c"]) : nodeContent(`f${i - 1}`, ["a"], ["c"], local),
    ]),
  );
  expect(refused(modelOf(callOf("f49"), ...chain))).toMatchObject({
    code: "ONNX_LIMIT",
    details: { what: "nested function calls" },
  });
});

test("graphs in functions that are called from graphs in functions add up", () => {
  // Each function holds an If whose branch calls the next: one level of graphs in the file, 30 after inlining.
  const branch = (content: Uint8Array): wire.Piece =>
    wire.attributePiece(
      "then_branch",
      5,
      wire.inner(
        attributeFields.graph,
        wire.bytes(graphFields.node, content),
        wire.valuePiece(graphFields.output, "t", [1]),
      ),
    );
  const chain = Array.from({ length: 30 }, (_, i) =>
    functionPiece(`f${i}`, [
      nodeContent(
        "If",
        ["a"],
        ["c"],
        branch(i === 0 ? nodeContent("Neg", ["a"], ["t"]) : nodeContent(`f${i - 1}`, ["a"], ["t"], local)),
      ),
    ]),
  );
  const bytes = modelOf(callOf("f29"), ...chain);
  expect(refused(bytes, { maxNesting: 30 })).toMatchObject({ code: "ONNX_LIMIT", details: { what: "nested graphs" } });
  expect(() => decodeModel(bytes)).not.toThrow();
});

test("long names that grow with every call are stopped before they fill the memory", () => {
  // 2^19 names of some 8,000 characters would take 4 GB.
  const bytes = modelOf(
    callOf("f19", wire.text(nodeFields.name, "n")),
    ...doubling(20, [nodeContent("Neg", ["a"], ["c"])], "x".repeat(400)),
  );
  expect(bytes.length).toBeLessThan(20_000);
  expect(refused(bytes)).toMatchObject({
    code: "ONNX_LIMIT",
    details: { what: "characters in names of inlined functions" },
  });
});

test("lists in a body count with every call", () => {
  const weights = Array.from({ length: 1000 }, (_, i) => wire.initializer(`w${i}`, "float32", [0]));
  const branch = wire.attributePiece(
    "then_branch",
    5,
    wire.inner(attributeFields.graph, ...weights, wire.valuePiece(graphFields.output, "a", [1])),
  );
  const withGraph = modelOf(callOf("f7"), ...doubling(8, [nodeContent("If", ["a"], ["c"], branch)]));
  expect(refused(withGraph, { maxFields: 50_000 }).code).toBe("ONNX_LIMIT");
  expect(() => decodeModel(withGraph)).not.toThrow();
  const inputs = Array.from({ length: 1000 }, () => "a");
  const withInputs = modelOf(callOf("f7"), ...doubling(8, [nodeContent("Sum", inputs, ["c"])]));
  expect(refused(withInputs, { maxFields: 50_000 }).code).toBe("ONNX_LIMIT");
});

test("a function of another version of the operators is refused", () => {
  const own = functionPiece(
    "f",
    [nodeContent("Neg", ["a"], ["c"])],
    wire.inner(functionFields.opsetImport, wire.int(2, 12)),
  );
  expect(refused(modelOf(callOf("f"), own))).toMatchObject({
    code: "ONNX_UNSUPPORTED",
    message: expect.stringContaining("version 12"),
  });
});
