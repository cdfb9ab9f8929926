import { describe, expect, test } from "vitest";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Value } from "../onnx/ir.ts";
import { lowerModel } from "./lower-model.ts";
import { checkLowering, compareModels } from "./testing/check-lowering.ts";
import { type FusedInput, type FusedNode, fusedModel } from "./testing/fused-model.ts";

const x: FusedInput = { dims: [2, 4, 7, 6], shape: ["batch", 4, 7, 6] };
const filter: FusedInput = { dims: [6, 4, 3, 3] };
const bias: FusedInput = { dims: [6] };

describe("FusedConv", () => {
  test.each([
    { activation: "Relu" },
    { activation: "Tanh" },
    { activation: "Sigmoid" },
    { activation: "LeakyRelu", activation_params: { type: "floats", value: [0.2] } },
    { activation: "HardSigmoid", activation_params: { type: "floats", value: [0.3, 0.4] } },
    { activation: "Clip", activation_params: { type: "floats", value: [-0.5, 0.8] } },
  ] as const)("%j", async (attributes) => {
    const inputs = [x, filter, bias];
    // The gradient of a kink cannot be seen by a difference over it; the rules of these activations are tested by themselves.
    const gradients = ["Tanh", "Sigmoid"].includes(attributes.activation);
    await checkLowering({ op: "FusedConv", inputs, attributes, outputs: [{ rank: 4 }] }, { gradients });
  });

  test("strides, pads, groups, and a sum before the activation", async () => {
    const attributes = { activation: "Relu", strides: [2, 1], pads: [1, 0, 1, 2], group: 2 };
    const inputs = [x, { dims: [6, 2, 3, 3] }, bias, { dims: [2, 6, 4, 6] }];
    const spec: FusedNode = { op: "FusedConv", inputs, attributes, outputs: [{ rank: 4 }] };
    const { graph } = await checkLowering(spec, { gradients: false });
    expect(graph.nodes.map((n) => n.op)).toEqual(["Conv", "Add", "Relu"]);
  });
});

/** The CPU has no float32 kernels with channels last; the definition is written out. */
describe("channels last", () => {
  const image: FusedInput = { dims: [2, 7, 6, 4] };
  async function compare(spec: FusedNode, define: (g: Builder, inputs: Value[]) => Value): Promise<void> {
    const fused = fusedModel(spec);
    const g = createBuilder(17);
    const inputs = spec.inputs.map((input, i) =>
      input?.constant
        ? g.initializer(`x${i}`, fused.tensors.get(`x${i}`)!)
        : g.input(`x${i}`, "float32", input?.dims ?? []),
    );
    g.output(define(g, inputs), "y0");
    await compareModels(lowerModel(fused.model), fused.tensors, toModel(g.finish(), 17), fused.tensors);
  }
  const first = (g: Builder, v: Value): Value => g.transpose(v, [0, 3, 1, 2]);
  const last = (g: Builder, v: Value): Value => g.transpose(v, [0, 2, 3, 1]);

  test.each([true, false])("NhwcConv, its filter constant: %s", async (constant) => {
    const attributes = { pads: [1, 1, 1, 1], strides: [2, 2] };
    const inputs = [image, { dims: [6, 3, 3, 4], constant }, bias];
    await compare({ op: "NhwcConv", inputs, attributes, outputs: [{ rank: 4 }] }, (g, [a, w, b]) =>
      last(g, g.op("Conv", [first(g, a!), first(g, w!), b!], attributes)[0] as Value),
    );
  });

  test("NhwcFusedConv", async () => {
    const attributes = { pads: [1, 1, 1, 1] };
    const inputs = [image, filter, bias, { dims: [2, 7, 6, 6] }];
    const spec = {
      op: "NhwcFusedConv",
      inputs,
      attributes: { ...attributes, activation: "Relu" },
      outputs: [{ rank: 4 }],
    };
    await compare(spec, (g, [a, w, b, z]) =>
      g.relu(g.add(last(g, g.op("Conv", [first(g, a!), w!, b!], attributes)[0] as Value), z!)),
    );
  });

  test("NhwcMaxPool", async () => {
    const attributes = { kernel_shape: [3, 2], strides: [2, 2], ceil_mode: 1 };
    await compare({ op: "NhwcMaxPool", inputs: [image], attributes, outputs: [{ rank: 4 }] }, (g, [a]) =>
      last(g, g.op("MaxPool", [first(g, a!)], attributes)[0] as Value),
    );
  });
});
