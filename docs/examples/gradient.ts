import { createBuilder, differentiate, encodeModel, onnxruntimeNode, toModel } from "@onnx-peft/core";

// y = mean(tanh(x·W)), and its gradient with respect to W, as one ONNX graph.
const g = createBuilder();
const x = g.input("x", "float32", ["batch", 2]);
const w = g.input("W", "float32", [2, 3]);
const y = g.reduceMean(g.tanh(g.matMul(x, w)), [0, 1], false);
const [dW] = differentiate(g, [{ value: y }], [w]);
g.output(y, "y");
if (dW) g.output(dW, "dW");

const model = toModel(g.finish(), g.opset);
console.log(model.graph.nodes.map((node) => node.op).join(" "));

const session = await onnxruntimeNode.open(encodeModel(model));
const outputs = await session.run({
  x: { type: "float32", dims: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
  W: { type: "float32", dims: [2, 3], data: Float32Array.of(0.1, 0.2, -0.3, 0.4, -0.5, 0.6) },
});
for (const [name, { dims, data }] of Object.entries(outputs)) {
  console.log(name, dims, [...data].map((v) => Number(v).toFixed(4)).join(" "));
}
await session.close();
