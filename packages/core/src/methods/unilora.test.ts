import { describe, expect, test } from "vitest";
import { adapterOf, initialParameters } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import type { SiteShape } from "../adapters/site.ts";
import type { Model, Node } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { groundOf } from "./testing/grounds.ts";
import { unilora } from "./unilora.ts";
import { assign } from "./unilora-indices.ts";

const linear = (name: string, inFeatures: number, outFeatures: number): SiteShape => ({
  ...{ name, kind: "linear", inFeatures, outFeatures, weightShape: [outFeatures, inFeatures], hasBias: true },
});

describe("the projection", () => {
  test("is that of peft's code with NumPy 2.4", () => {
    const indices = (width: number, out: number, length: number, seed: number) => [
      ...assign([linear("a", width, out)], 1, length, seed).indices,
    ];
    const many = [1, 4, 1, 3, 4, 1, 2, 0, 2, 4, 4, 2, 1, 4, 0, 0, 3, 0, 3, 2, 3, 3, 0];
    expect(indices(11, 12, 5, 42)).toEqual(many);
    expect(indices(4, 8, 16, 1)).toEqual([0, 13, 5, 3, 9, 1, 12, 11, 2, 7, 6, 4]);
  });

  test.each([7, 41, 200])("of %d numbers keeps lengths, and uses all alike", (length) => {
    const sites = [linear("a", 6, 8), linear("b", 5, 3)];
    const { indices, scales, starts } = assign(sites, 2, length, 3);
    expect([...starts]).toEqual([
      ["a", 0],
      ["b", 28],
    ]);
    const uses = new Array<number>(length).fill(0);
    for (const index of indices) uses[index]!++;
    expect(Math.max(...uses) - Math.min(...uses)).toBeLessThanOrEqual(1);
    // Columns of the projection that read something have length 1, so theta and all factors together have one norm.
    uses.forEach((n, i) => {
      expect(n * scales[i]! ** 2).toBeCloseTo(n === 0 ? 0 : 1, 6);
    });
  });
});

const logits = async (model: Model): Promise<Float32Array> => {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const found = await session.run(groundOf("transformer block").feeds, ["inner"]);
  await session.close();
  return found["inner"]!.data as Float32Array;
};

test("a file without indices says for which modules they were drawn, where the training reached a part only", async () => {
  const { model, feeds } = groundOf("transformer block");
  const first = injectAdapter(model, { method: unilora, config: { targetModules: ["query"] } }).plans[0]!.site;
  // The queries of the first layer are an output too, and the one that is trained for.
  const { graph } = model;
  const made = graph.nodes.find(({ outputs }) => outputs.includes(first.output))!;
  const node: Node = { ...made, name: "inner", op: "Identity", inputs: [first.output], outputs: ["inner"] };
  const outputs = [...graph.outputs, { ...graph.outputs[0]!, name: "inner", shape: ["batch", "tokens", 8] }];
  const whole: Model = {
    ...model,
    graph: { ...graph, nodes: [...graph.nodes, { ...node, attributes: {} }], outputs },
  };
  const config = { r: 2, thetaDLength: 9, initThetaDBound: 2, targetModules: "all-linear" } as const;
  const adapted = injectAdapter(whole, { method: unilora, config, wantedOutputs: ["inner"] });
  expect(adapted.plans.map(({ site }) => site.name)).toEqual([first.name]);
  expect(adapted.unreached.length).toBeGreaterThan(2);
  const values = initialParameters(adapted, 4);
  adapted.g.output(adapted.outputs.get("inner")!, "inner");
  const session = await openBuilder(adapted.g);
  const fed = Object.fromEntries(
    adapted.parameters.map(({ name, shape }) => [
      name,
      { type: "float32" as const, dims: shape, data: values.get(name)! },
    ]),
  );
  const expected = (await session.run({ ...feeds, ...fed }))["inner"]!.data as Float32Array;
  await session.close();
  const adapter = fromPeft(toPeft(adapterOf(adapted, values)));
  expect([...adapter.tensors.keys()]).toEqual(["base_model.unilora_theta_d"]);
  expect(adapter.config.targetModules).toEqual([first.name]);
  const found = await logits(mergeAdapter(whole, adapter));
  const plain = await logits(whole);
  found.forEach((v, i) => {
    expect(v).toBeCloseTo(expected[i]!, 5);
  });
  expect(Math.max(...found.map((v, i) => Math.abs(v - plain[i]!)))).toBeGreaterThan(1e-2);
});
