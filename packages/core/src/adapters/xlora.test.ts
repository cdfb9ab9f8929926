import { describe, expect, test } from "vitest";
import { prepareModel } from "../lowering/lower-model.ts";
import { tinyTraining } from "../methods/testing/tiny-training.ts";
import { xlora } from "../methods/xlora.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { type Adapter, initialParameters } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { makeMixedSwappable } from "./mixed-set.ts";
import type { AdapterConfigInput } from "./select.ts";
import { movedAdapter } from "./testing/moved-adapter.ts";
import { tinyModel } from "./testing/tiny-model.ts";
import { withExperts, xloraConfigOf } from "./xlora.ts";

const model = prepareModel(tinyModel());
const targetModules = ["query", "value", "up", "output.dense"];
const expertOf = (seed: number, config: object = {}): Adapter =>
  movedAdapter(model, "LORA", { r: 2, alpha: 4, targetModules, ...config }, seed);
const ids: RuntimeTensor = {
  type: "int64",
  dims: [2, 5],
  data: BigInt64Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], BigInt),
};

test("one expert under a softmax is that adapter", async () => {
  const only = expertOf(1, { r: 3 });
  const merged = await onnxruntimeNode.open(encodeModel(mergeAdapter(model, only)), { threads: 1 });
  const expected = (await merged.run({ input_ids: ids }, ["logits"]))["logits"]!.data as Float32Array;
  await merged.close();
  const config = xloraConfigOf({ only }, { hiddenSize: 8 });
  const adapted = injectAdapter(model, { method: xlora, config, wantedOutputs: ["logits"] });
  const values = withExperts(adapted, initialParameters(adapted, 1), [only]);
  adapted.g.output(adapted.outputs.get("logits")!, "logits");
  const session = await openBuilder(adapted.g);
  const feeds: Record<string, RuntimeTensor> = { input_ids: ids };
  for (const { name, shape } of adapted.parameters)
    feeds[name] = { type: "float32", dims: shape, data: values.get(name)! };
  const { logits } = await session.run(Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]!])));
  await session.close();
  (logits!.data as Float32Array).forEach((v, i) => {
    expect(v).toBeCloseTo(expected[i]!, 5);
  });
});

test("the classifier learns to mix experts, which stay as they are; weights are in the graph once", async () => {
  const experts = { a: expertOf(1), b: expertOf(2, { r: 1 }), c: expertOf(3) };
  const config = xloraConfigOf(experts, { hiddenSize: 8, layerwiseScalings: true });
  const plan = injectAdapter(model, { method: xlora, config, wantedOutputs: ["logits"] });
  const start = withExperts(plan, initialParameters(plan, 3), Object.values(experts));
  const training = await tinyTraining("XLORA", config as Readonly<Record<string, unknown>>, {
    totalSteps: 40,
    start(values) {
      for (const [name, data] of values) data.set(start.get(name)!);
    },
  });
  const losses = await training.steps(0, 40);
  expect(losses.at(-1)).toBeLessThan(losses[0]! * 0.8);
  for (const { name, trainable } of training.adapted.parameters) {
    const found = await training.values(name);
    if (trainable) expect(found, name).not.toEqual(start.get(name));
    else expect(found, name).toEqual(start.get(name));
  }
  await training.engine.close();
  const names = [...plan.g.initializers.keys()].filter((name) => name.startsWith("onnx::MatMul"));
  expect(names).toEqual([...model.graph.initializers.keys()].filter((name) => name.startsWith("onnx::MatMul")));
});

describe("what is refused", () => {
  const config = xloraConfigOf({ a: expertOf(1), b: expertOf(2) }, { hiddenSize: 8 });
  const inject = (changes: object) => () =>
    injectAdapter(model, { method: xlora, config: { ...config, ...changes } as AdapterConfigInput<never> });
  test.each([
    ["another width", { hiddenSize: 7 }, "HIDDEN_STATES"],
    ["a value that is not there", { hiddenState: "nothing" }, "HIDDEN_STATES"],
    ["no experts", { adapters: {} }, "NO_EXPERTS"],
    ["more of the largest than there are", { topKLora: 3 }, "CONFIG_INVALID"],
    ["experts that are on in the first pass", { scalingPassValue: 0.5 }, "CONFIG_INVALID"],
    ["a module that sees no tokens", { targetModules: ["query", "classifier"] }, "XLORA_TOKENS"],
  ])("%s", (_, changes, code) => {
    expect(inject(changes)).toThrow(expect.objectContaining({ code }));
  });

  test("experts that do not fit, and rows of their own", () => {
    const plan = inject({})();
    expect(() => withExperts(plan, new Map(), [expertOf(1, { r: 4 })])).toThrow(
      expect.objectContaining({ code: "EXPERTS_DIFFER" }),
    );
    const mixed = () => makeMixedSwappable(model, { method: xlora, config, places: 2 });
    expect(mixed).toThrow(expect.objectContaining({ code: "ROWS_UNSUPPORTED" }));
  });
});
