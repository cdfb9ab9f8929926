import { describe, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { lowerModel } from "./lower-model.ts";
import { checkLowering, compareModels } from "./testing/check-lowering.ts";
import { type FusedInput, fusedModel } from "./testing/fused-model.ts";

const a: FusedInput = { dims: [3, 4], shape: ["rows", 4] };
const b: FusedInput = { dims: [4, 5] };
const value = (x: number) => ({ type: "float", value: x }) as const;

describe("FusedGemm", () => {
  test.each([
    { activation: "Relu" },
    { activation: "Sigmoid" },
    { activation: "Tanh" },
    { activation: "Softplus" },
    { activation: "Softsign" },
    { activation: "LeakyRelu", activation_alpha: value(0.2) },
    { activation: "Elu", activation_alpha: value(0.7) },
    { activation: "HardSigmoid", activation_alpha: value(0.3), activation_beta: value(0.4) },
    { activation: "Selu", activation_alpha: value(1.2), activation_gamma: value(0.9) },
    { activation: "ThresholdedRelu", activation_alpha: value(0.1) },
  ])("%j", async (attributes) => {
    await checkLowering({ op: "FusedGemm", inputs: [a, b, { dims: [5] }], attributes, outputs: [{ rank: 2 }] });
  });

  test("transposed factors, alpha and beta; without C", async () => {
    const attributes = { activation: "Tanh", transA: 1, transB: 1, alpha: value(0.5), beta: value(2) };
    const inputs = [{ dims: [4, 3] }, { dims: [5, 4] }, { dims: [3, 1] }];
    const { graph } = await checkLowering({ op: "FusedGemm", inputs, attributes, outputs: [{ rank: 2 }] });
    expect(graph.nodes.map((n) => n.op)).toEqual(["Gemm", "Tanh"]);
    await checkLowering({
      op: "FusedGemm",
      inputs: [a, b],
      attributes: { activation: "Relu" },
      outputs: [{ rank: 2 }],
    });
  });

  test("an activation that is not known is refused by name", () => {
    const { model } = fusedModel({ op: "FusedGemm", inputs: [a, b], attributes: { activation: "constructor" } });
    expect(() => lowerModel(model)).toThrow(/"constructor" is not known/);
  });
});

/** No CPU kernel has these operators; the definition is written out. */
describe("products for other providers", () => {
  const define = (build: (g: ReturnType<typeof createBuilder>, dims: number[][]) => void, dims: number[][]) => {
    const g = createBuilder(17);
    build(g, dims);
    return toModel(g.finish(), 17);
  };
  test("FusedMatMulActivation, TransposeMatMul, GemmFastGelu", async () => {
    const dims = [[2, 3, 4], [5, 4], [5]];
    const inputs = dims.map((d): FusedInput => ({ dims: d }));
    const spec = { inputs: inputs.slice(0, 2), outputs: [{ rank: 3 }] };
    const product = (activation: boolean) =>
      define((g) => {
        const [x, w] = [g.input("x0", "float32", dims[0]!), g.input("x1", "float32", dims[1]!)];
        const y = g.mul(g.matMul(x, g.transpose(w, [1, 0])), 0.5);
        g.output(activation ? g.relu(y) : y, "y0");
      }, dims);
    const attributes = { transB: 1, alpha: value(0.5) };
    const relu = fusedModel({
      op: "FusedMatMulActivation",
      ...spec,
      attributes: { ...attributes, activation: "Relu" },
    });
    await compareModels(lowerModel(relu.model), relu.tensors, product(true), relu.tensors);
    const plain = fusedModel({ op: "TransposeMatMul", ...spec, attributes });
    await compareModels(lowerModel(plain.model), plain.tensors, product(false), plain.tensors);
    const gelu = fusedModel({
      op: "GemmFastGelu",
      inputs: [inputs[0]!, { dims: [4, 5] }, inputs[2]!],
      outputs: [{ rank: 3 }],
    });
    const expected = define((g) => {
      const [x, w, c] = [
        g.input("x0", "float32", [2, 3, 4]),
        g.input("x1", "float32", [4, 5]),
        g.input("x2", "float32", [5]),
      ];
      const v = g.add(g.matMul(x, w), c);
      const u = g.mul(g.add(v, g.mul(g.mul(g.mul(v, v), v), 0.044715)), Math.sqrt(2 / Math.PI));
      g.output(g.mul(g.mul(v, 0.5), g.add(g.tanh(u), 1)), "y0");
    }, []);
    await compareModels(lowerModel(gelu.model), gelu.tensors, expected, gelu.tensors);
  });
});
