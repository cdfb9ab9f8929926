import { expect, test } from "vitest";
import { lowerModel } from "./lower-model.ts";
import { checkLowering } from "./testing/check-lowering.ts";
import { fusedModel } from "./testing/fused-model.ts";

const x = { dims: [2, 3, 5], shape: ["batch", "tokens", 5] };
const bias = { dims: [5] };

test("BiasGelu: the bias comes out", async () => {
  const { graph } = await checkLowering({ op: "BiasGelu", inputs: [x, bias], outputs: [{ rank: 3 }] });
  expect(graph.nodes.map((n) => n.op)).toEqual(["Add", "Gelu"]);
});

test("FastGelu with a bias; without one it stays as it is", async () => {
  const { graph } = await checkLowering({ op: "FastGelu", inputs: [x, bias], outputs: [{ rank: 3 }] });
  expect(graph.nodes.map((n) => n.op)).toEqual(["Add", "FastGelu"]);
  const { model } = fusedModel({ op: "FastGelu", inputs: [x], outputs: [{ rank: 3 }] });
  expect(lowerModel(model)).toBe(model);
});
