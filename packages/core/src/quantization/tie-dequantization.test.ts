import { expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Graph, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { randomFloats } from "./testing/packed-forms.ts";
import { tieDequantization } from "./tie-dequantization.ts";

const size = 256; // 65,536 weights: the smallest that are tied

/** Two layers with weights in int8, declared before the activations; `quantised` rounds the input of the first as well. */
function layers(quantised: boolean): Graph {
  const g = createBuilder(17);
  const weights = [0, 1].map((i) => {
    const codes = Int8Array.from(randomFloats(size * size, i + 1, 100));
    const inputs = [
      g.initializer(`w${i}`, tensorFrom("int8", [size, size], codes)),
      g.initializer(`s${i}`, tensorFrom("float32", [size], randomFloats(size, i + 5, 0.01))),
    ];
    return g.op("DequantizeLinear", inputs, { axis: 0 })[0] as Value;
  });
  let x = g.input("x", "float32", ["batch", size]);
  if (quantised) {
    const scale = g.constant("float32", 0.01);
    const [codes] = g.op("QuantizeLinear", [x, scale]);
    x = g.op("DequantizeLinear", [codes as Value, scale])[0] as Value;
  }
  const h = g.matMul(x, weights[0] as Value);
  g.output(g.matMul(h, g.transpose(weights[1] as Value, [1, 0])), "y");
  return g.finish();
}

const scalesOf = (graph: Graph): (string | undefined)[] =>
  graph.nodes.filter((n) => n.op === "DequantizeLinear" && n.inputs[0]?.startsWith("w")).map((n) => n.inputs[1]);

async function run(graph: Graph): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(toModel(graph, 17)), { threads: 1 });
  const { y } = await session.run({ x: { type: "float32", dims: [2, size], data: randomFloats(2 * size, 9) } });
  await session.close();
  return y?.data as Float32Array;
}

test("scales wait for the activation beside them; the result is the same to the bit", async () => {
  const graph = layers(false);
  const tied = tieDequantization(graph);
  const names = scalesOf(tied);
  expect(names).toHaveLength(2);
  for (const name of names) expect(graph.initializers.has(name ?? "")).toBe(false);
  const order = tied.nodes.map((n) => n.outputs[0]);
  // The second weight hangs on the result of the first product, also behind its Transpose.
  const [first, second] = tied.nodes.filter((n) => n.op === "DequantizeLinear").map((n) => order.indexOf(n.outputs[0]));
  const product = tied.nodes.findIndex((n) => n.op === "MatMul");
  expect(first).toBeLessThan(product);
  expect(second).toBeGreaterThan(product);
  expect(await run(tied)).toEqual(await run(graph));
});

test("products of two quantised factors are left to the engine, and so are small weights", () => {
  expect(scalesOf(tieDequantization(layers(true)))[0]).toBe("s0");
  const g = createBuilder(17);
  const inputs = [g.initializer("w", tensorFrom("int8", [2, 2], [1, 2, 3, 4])), g.constant("float32", 0.5)];
  g.output(g.matMul(g.input("x", "float32", [1, 2]), g.op("DequantizeLinear", inputs)[0] as Value), "y");
  const small = g.finish();
  expect(tieDequantization(small)).toBe(small);
});
