import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { crossEntropy } from "../losses/cross-entropy.ts";
import { methodOf } from "../methods/registry.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { initialParameters } from "./adapter.ts";
import { injectAdapter, trainableValues } from "./inject.ts";
import {
  goldenAdapter,
  goldenInputs,
  goldenModel,
  goldenRouters,
  goldenTensor,
  goldenUnder,
} from "./testing/golden-routers.ts";
import { withExperts, xloraConfigOf } from "./xlora.ts";

const { token_tasks: tasks, xlora: runs } = goldenRouters;
const experts = tasks.map(goldenAdapter);
const hiddenSize = 32;
const camelCase = (name: string): string => name.replace(/_(.)/g, (_, c: string) => c.toUpperCase());
const optionsOf = (run: string): object =>
  Object.fromEntries(Object.entries(runs[run]!).map(([name, value]) => [camelCase(name), value]));

/** The other exporter differs in what stands around the modules: one run shows it. */
describe.each([
  ["model_torchscript.onnx", Object.keys(runs)],
  ["model_dynamo.onnx", ["xlora_layerwise"]],
])("X-LoRA over %s", (file, names) => {
  test.each(names)("%s gives peft's logits and gradients of the classifier", async (run) => {
    const model = await goldenModel("llama", file);
    const named = Object.fromEntries(experts.map((adapter, i) => [`${i}`, adapter]));
    const config = xloraConfigOf(named, { hiddenSize, ...optionsOf(run) });
    const adapted = injectAdapter(model, { method: methodOf("XLORA"), config, wantedOutputs: ["logits"] });
    const { g } = adapted;
    const logits = adapted.outputs.get("logits")!;
    const labels = g.input("labels", "int64", logits.shape.slice(0, 2));
    const loss = crossEntropy(g, { logits, labels });
    const wanted = trainableValues(adapted);
    g.output(logits, "logits");
    g.output(loss.weight, "weight");
    differentiate(g, [{ value: loss.sum }], wanted).forEach((d, i) => {
      g.output(d, `d:${wanted[i]!.name}`);
    });
    const values = withExperts(adapted, initialParameters(adapted, 1), experts);
    const classifier = "base_model.internal_xlora_classifier.";
    const trained = goldenUnder(`${run}.classifier`);
    expect(wanted.map((v) => v.name).sort()).toEqual([...trained.keys()].map((name) => classifier + name).sort());
    for (const [name, tensor] of trained) values.set(classifier + name, toFloat32Array(tensor));
    const inputs = goldenInputs("text");
    const feeds: Record<string, RuntimeTensor> = {
      ...inputs,
      labels: inputs["input_ids"]!,
      ...Object.fromEntries(
        adapted.parameters.map((p) => [p.name, { type: "float32", dims: p.shape, data: values.get(p.name)! } as const]),
      ),
    };
    const session = await openBuilder(g);
    const found = await session.run(Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]!])));
    await session.close();
    const close = (data: Float32Array, expected: Float32Array, scale: number): void => {
      expect(data.length).toBe(expected.length);
      const size = Math.max(...expected.map(Math.abs));
      for (let i = 0; i < data.length; i++) expect(Math.abs(data[i]! / scale - expected[i]!) / size).toBeLessThan(1e-5);
    };
    close(found["logits"]!.data as Float32Array, goldenTensor(`${run}.logits`), 1);
    const weight = Number(found["weight"]!.data[0]);
    for (const name of trained.keys())
      close(found[`d:${classifier}${name}`]!.data as Float32Array, goldenTensor(`${run}.grad.${name}`), weight);
  });
});
