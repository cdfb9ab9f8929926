import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { decodeModel } from "./decode.ts";
import { addDims, evaluateDim, floorDivide, mulDims, subDims } from "./dims.ts";
import { byteLength, type ElementType, elementTypes } from "./element-type.ts";
import type { Attribute, Dim, FileRange, Model, TensorData } from "./ir.ts";
import { readModel } from "./read.ts";
import { readFileRange, stringTensor } from "./tensor.ts";
import { graph, model, node, value } from "./testing/models.ts";
import { encodeModel, writeModel } from "./write.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-properties-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Text of whole characters: others cannot be written as UTF-8. */
const text = fc
  .string({ unit: "grapheme", maxLength: 8 })
  .filter((s) => !/\p{Surrogate}/u.test(s) && s !== "__proto__");
const name = text.filter((s) => s !== "");
const numericTypes = (Object.keys(elementTypes) as ElementType[]).filter((type) => type !== "string");

const tensor: fc.Arbitrary<TensorData> = fc.oneof(
  fc
    .record({ type: fc.constantFrom(...numericTypes), dims: fc.array(fc.nat(3), { maxLength: 3 }), seed: fc.nat(255) })
    .map(({ type, dims, seed }) => {
      const length = byteLength(
        type,
        dims.reduce((a, b) => a * b, 1),
      );
      return { type, dims, data: Uint8Array.from({ length }, (_, i) => seed + 37 * i) };
    }),
  fc.array(text, { maxLength: 3 }).map((strings) => stringTensor([strings.length], strings)),
);

/** Integers come back as numbers where those are exact. */
const int = fc
  .bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
  .map((x) => (Number.isSafeInteger(Number(x)) ? Number(x) : x));
const float = fc.float();
/** Texts, and bytes that are none. */
const bytes = fc.oneof(
  text,
  fc.uint8Array({ maxLength: 4 }).map((list) => Uint8Array.from([0xff, ...list])),
);

const branch = fc.record({ name: text, weight: tensor }).map(({ name: graphName, weight }) =>
  graph({
    name: graphName,
    nodes: [node("Neg", ["x"], ["inner"])],
    outputs: [value("inner", ["n", 2])],
    initializers: new Map([["own", weight]]),
    values: new Map([["inner", { type: "float32", shape: ["n", 2] }]]),
  }),
);

const attribute: fc.Arbitrary<Attribute> = fc.oneof(
  float.map((v): Attribute => ({ type: "float", value: v })),
  int.map((v): Attribute => ({ type: "int", value: v })),
  bytes.map((v): Attribute => ({ type: "string", value: v })),
  tensor.map((v): Attribute => ({ type: "tensor", value: v })),
  branch.map((v): Attribute => ({ type: "graph", value: v })),
  fc.array(float, { maxLength: 4 }).map((v): Attribute => ({ type: "floats", value: v })),
  fc.array(int, { maxLength: 4 }).map((v): Attribute => ({ type: "ints", value: v })),
  fc.array(bytes, { maxLength: 3 }).map((v): Attribute => ({ type: "strings", value: v })),
  fc.array(tensor, { maxLength: 2 }).map((v): Attribute => ({ type: "tensors", value: v })),
  fc.array(branch, { maxLength: 2 }).map((v): Attribute => ({ type: "graphs", value: v })),
);

const anyModel: fc.Arbitrary<Model> = fc
  .record({
    nodes: fc.array(
      fc.record({
        op: name,
        domain: fc.constantFrom("", "local", "com.microsoft"),
        nodeName: text,
        reads: fc.array(fc.nat(20), { maxLength: 3 }),
        attributes: fc.dictionary(name, attribute, { maxKeys: 3, noNullPrototype: true }),
        metadata: fc.dictionary(name, text, { maxKeys: 2, noNullPrototype: true }),
      }),
      { maxLength: 5 },
    ),
    weights: fc.uniqueArray(fc.tuple(name, tensor), { selector: ([n]) => n, maxLength: 4 }),
    metadata: fc.dictionary(name, text, { maxKeys: 2, noNullPrototype: true }),
    producer: fc.record({ name: text, version: text }, { noNullPrototype: true }),
    irVersion: fc.integer({ min: 4, max: 13 }),
    opset: fc.integer({ min: 11, max: 24 }),
  })
  .map(({ nodes, weights, metadata, producer, irVersion, opset }) => {
    // Edges have names that no weight has.
    const readable = ["x", ...weights.map(([n]) => `w:${n}`)];
    const made = nodes.map(({ op, domain, nodeName, reads, attributes, metadata: own }, i) => {
      const inputs = reads.map((at) => readable[at % readable.length]!);
      readable.push(`edge${i}`);
      return { name: nodeName, op, domain, inputs, outputs: [`edge${i}`], attributes, metadata: own };
    });
    const output = readable.at(-1)!;
    const boundary = { type: "float32", shape: ["n", 2] } as const;
    return model(
      {
        nodes: made,
        inputs: [value("x", ["n", 2])],
        outputs: [value(output, ["n", 2])],
        initializers: new Map(weights.map(([n, t]) => [`w:${n}`, t])),
        values: new Map([
          ["x", boundary],
          [output, boundary],
        ]),
      },
      {
        producer,
        irVersion,
        metadata: new Map(Object.entries(metadata)),
        opsets: new Map([
          ["", opset],
          ["local", 1],
        ]),
      },
    );
  });

test("a model that is written is read back as it was, every kind of attribute included", () => {
  fc.assert(
    fc.property(anyModel, (original) => {
      expect(decodeModel(encodeModel(original))).toEqual(original);
    }),
    { numRuns: 200, seed: 1 },
  );
});

/** Everything as it is, with weights as bytes wherever they lie. */
function inMemory(part: unknown): unknown {
  if (part instanceof Uint8Array || typeof part !== "object" || part === null) return part;
  if (part instanceof Map) return new Map([...part].map(([key, content]) => [key, inMemory(content)]));
  if (Array.isArray(part)) return part.map(inMemory);
  if ("path" in part && "offset" in part) return new Uint8Array(readFileRange(part as FileRange));
  return Object.fromEntries(Object.entries(part).map(([key, content]) => [key, inMemory(content)]));
}

test("through files, with weights inside or beside them", async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(anyModel, fc.boolean(), fc.integer({ min: 1, max: 16 }), async (original, beside, threshold) => {
      const path = join(folder, `${run++}.onnx`);
      const externalData = beside ? { fileName: `${run}.data`, threshold } : "none";
      await writeModel(original, path, { externalData });
      const read = await readModel(path, { rangeThreshold: threshold });
      expect(inMemory(read)).toEqual(original);
    }),
    { numRuns: 40, seed: 1 },
  );
});

test("arithmetic on dimensions agrees with arithmetic on their sizes", () => {
  const sizes = new Map([
    ["a", 5],
    ["b", 7],
    ["c", 12],
  ]);
  interface Pair {
    readonly dim: Dim;
    readonly size: number;
  }
  const leaf: fc.Arbitrary<Pair> = fc.oneof(
    fc.integer({ min: 1, max: 9 }).map((n) => ({ dim: n, size: n })),
    fc.constantFrom(...sizes).map(([dim, size]) => ({ dim, size })),
  );
  const { expression } = fc.letrec<{ expression: Pair }>((tie) => ({
    expression: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.tuple(fc.constantFrom("+", "-", "*", "/"), tie("expression"), tie("expression")).map(([op, x, y]): Pair => {
        if (op === "+") return { dim: addDims(x.dim, y.dim), size: x.size + y.size };
        if (op === "-") return { dim: subDims(x.dim, y.dim), size: x.size - y.size };
        if (op === "*") return { dim: mulDims(x.dim, y.dim), size: x.size * y.size };
        return y.size === 0 ? x : { dim: floorDivide(x.dim, y.dim), size: Math.floor(x.size / y.size) };
      }),
    ),
  }));
  fc.assert(
    fc.property(expression, ({ dim, size }) => {
      const found = evaluateDim(dim, sizes);
      // An expression too long to follow has no value, but then it is long.
      if (found === null) expect(String(dim)).toContain("[~");
      else if (Number.isSafeInteger(size)) expect(found).toBe(size + 0); // a product with a negative may be -0
    }),
    { numRuns: 300, seed: 1 },
  );
});
