import { expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Graph } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { packedCopies, packingKeepsResults } from "./packed-copies.ts";
import { nBits, type PackedLinear, randomFloats } from "./testing/packed-forms.ts";

const OPSET = 21;

/** Two layers of 64 numbers, the second in float32. */
function layers(linear: PackedLinear, edit: (graph: Graph) => void = () => {}): Graph {
  const g = createBuilder(OPSET);
  const x = g.input("x", "float32", ["rows", 64]);
  const head = g.initializer("head", tensorFrom("float32", [64, 8], randomFloats(512, 3)));
  g.output(g.matMul(linear(g, x, "block.dense", 64, 64, 5), head), "y");
  const graph = g.finish({ name: "layers" });
  edit(graph);
  return graph;
}

const narrow = nBits(4, 32, "packed");
const NARROW_BYTES = (64 * 64) / 2;
const HEAD_BYTES = 4 * 64 * 8;

test("copies of all weights that products read, where one is of a few bits", () => {
  expect(packedCopies(layers(narrow))).toBe(NARROW_BYTES + HEAD_BYTES);
  const float: PackedLinear = (g, x) =>
    g.matMul(x, g.initializer("w", tensorFrom("float32", [64, 64], randomFloats(4096, 1))));
  expect(packedCopies(layers(float))).toBe(0);
});

test("none where they would be large, or change what is computed", () => {
  const withHead = (rows: number) => (graph: Graph) => {
    const data = { path: "weights", offset: 0, length: 256 * rows };
    (graph.initializers as Map<string, unknown>).set("head", { type: "float32", dims: [64, rows], data });
  };
  expect(packedCopies(layers(narrow, withHead(500_000)))).toBeGreaterThan(120e6);
  expect(packedCopies(layers(narrow, withHead(600_000)))).toBe(0);
  const integers: PackedLinear = (g, x, ...rest) => {
    const y = narrow(g, x, ...rest);
    Object.assign(g.nodes.at(-1)!.attributes, { accuracy_level: { type: "int", value: 4 } });
    return y;
  };
  expect(packedCopies(layers(integers))).toBe(0);
  expect([narrow, integers].map((linear) => packingKeepsResults(layers(linear)))).toEqual([true, false]);
});

const forms: Record<string, PackedLinear> = {
  "4 bits": nBits(4, 32, "absent"),
  "4 bits with zero points and bias": nBits(4, 32, "packed", { bias: true }),
  "4 bits with zero points in float32": nBits(4, 16, "float"),
  "2 bits": nBits(2, 16, "packed"),
  "8 bits": nBits(8, 32, "packed"),
};

test.each(Object.entries(forms))("packed or not, the product is the same: %s", async (_, linear) => {
  const bytes = encodeModel(toModel(layers(linear), OPSET));
  for (const rows of [1, 5, 70]) {
    const x = { type: "float32", dims: [rows, 64], data: randomFloats(rows * 64, 7) } as const;
    const [plain, packed] = await Promise.all(
      [false, true].map(async (packWeights) => {
        const session = await onnxruntimeNode.open(bytes, { packWeights });
        const { y } = await session.run({ x });
        await session.close();
        return Array.from(y!.data as Float32Array);
      }),
    );
    const size = Math.max(...plain!.map(Math.abs));
    expect(size).toBeGreaterThan(1);
    expect(Math.max(...plain!.map((v, i) => Math.abs(v - packed![i]!)))).toBeLessThan(1e-5 * size);
  }
});
