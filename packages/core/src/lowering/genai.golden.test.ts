import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { adapterOf, initialParameters } from "../adapters/adapter.ts";
import { injectAdapter, trainableValues } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { frozenSite } from "../adapters/operands.ts";
import { findSites } from "../adapters/sites.ts";
import { adapterFeeds, makeSwappable } from "../adapters/swappable.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { crossEntropy } from "../losses/cross-entropy.ts";
import { lora } from "../methods/lora.ts";
import type { Model, TensorData } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { toFloat32Array, toNumbers } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { cutCache } from "./cut-cache.ts";
import { prepareModel } from "./lower-model.ts";

/** A decoder as ONNX Runtime's GenAI builder writes it, against the Llama whose weights it has; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
type Tensors = ReadonlyMap<string, TensorData>;

const ids = ({ dims, ...tensor }: TensorData): RuntimeTensor => ({
  type: "int64",
  dims,
  data: BigInt64Array.from(toNumbers({ dims, ...tensor }), BigInt),
});

const feedsOf = (tensors: Tensors): Record<string, RuntimeTensor> =>
  Object.fromEntries(
    ["input_ids", "attention_mask", "labels"].map((name) => [name, ids(tensors.get(`input.${name}`)!)]),
  );

const config = { r: 4, alpha: 8, targetModules: ["q_proj", "v_proj"] };

describe.each(["model_genai.onnx", "model_genai_packed.onnx"])("%s", (file) => {
  const read = async () => ({
    model: await readModel(join(golden, "models/llama/genai", file)),
    ...(await readSafetensors(join(golden, "llama.safetensors"))),
  });

  test("has the modules of the checkpoint, with their weights", async () => {
    const { model } = await read();
    const { tensors } = await readSafetensors(join(golden, "models/llama/model.safetensors"));
    const sites = findSites(model);
    expect(sites.map((s) => `${s.name}.weight`).sort()).toEqual([...tensors.keys()].sort());
    for (const site of sites)
      expect(frozenSite(prepareModel(model).graph, site).weight()).toEqual(
        toFloat32Array(tensors.get(`${site.name}.weight`)!),
      );
  });

  test("without its cache: loss and adapter gradients are PyTorch's", async () => {
    const { model, tensors } = await read();
    const adapted = injectAdapter(model, { method: lora, config });
    const { g, outputs } = adapted;
    expect(g.inputs.map((v) => v.name).filter((name) => name.startsWith("past"))).toEqual([]);
    const logits = outputs.get("logits")!;
    const labels = g.input("labels", "int64", logits.shape.slice(0, -1));
    const { sum, weight } = crossEntropy(g, {
      logits: g.slice(logits, [0], [-1], [1]),
      labels: g.slice(labels, [1], [100], [1]),
    });
    const loss = g.div(sum, weight);
    const wanted = trainableValues(adapted);
    g.output(loss, "loss");
    differentiate(g, [{ value: loss }], wanted).forEach((d, i) => {
      g.output(d, `d:${wanted[i]!.name}`);
    });
    const feeds = feedsOf(tensors);
    for (const { name, shape } of adapted.parameters) {
      const data = toFloat32Array(tensors.get(`lora.adapter.base_model.model.${name}`)!);
      feeds[name] = { type: "float32", dims: shape, data };
    }
    const session = await openBuilder(g);
    const result = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, feeds[n]!])));
    await session.close();
    const reference = toFloat32Array(tensors.get("lora.loss")!)[0]!;
    expect(Math.abs((result["loss"]!.data as Float32Array)[0]! - reference) / reference).toBeLessThan(1e-5);
    let [difference, norm, count] = [0, 0, 0];
    for (const { name } of wanted) {
      const found = result[`d:${name}`]!.data as Float32Array;
      toFloat32Array(tensors.get(`lora.grad.base_model.model.${name}`)!).forEach((x, i) => {
        difference += (found[i]! - x) ** 2;
        norm += x * x;
      });
      count++;
    }
    expect(count).toBe([...tensors.keys()].filter((key) => key.startsWith("lora.grad.")).length);
    expect(Math.sqrt(difference / norm)).toBeLessThan(1e-4);
  });

  test("merged it keeps its fused nodes and its cache; swappable it gives the same logits, step by step too", async () => {
    const { model, tensors } = await read();
    const adapted = injectAdapter(model, { method: lora, config });
    const values = initialParameters(adapted, 0);
    for (const name of values.keys())
      values.set(name, toFloat32Array(tensors.get(`lora.adapter.base_model.model.${name}`)!));
    const adapter = adapterOf(adapted, values);
    const merged = mergeAdapter(model, adapter);
    expect(merged.graph.nodes.map((n) => n.op)).toEqual(model.graph.nodes.map((n) => n.op));
    expect(merged.graph.inputs).toEqual(model.graph.inputs);
    const swappable = makeSwappable(model, { method: lora, config });
    const expected = toFloat32Array(tensors.get("lora.output.logits")!);
    const feeds = feedsOf(tensors);
    const [batch, tokens] = tensors.get("input.input_ids")!.dims as [number, number];
    const mask = toNumbers(tensors.get("input.attention_mask")!);
    const vocabulary = expected.length / (batch * tokens);
    /** Of the logits of tokens `from` and later; what stands at padding is unspecified in the operator. */
    const difference = (found: RuntimeTensor, from: number): number => {
      const [, length = 0] = found.dims;
      let largest = found.data.length === batch * length * vocabulary ? 0 : Number.NaN;
      for (const [i, value] of (found.data as Float32Array).entries()) {
        const [row, channel] = [Math.floor(i / vocabulary), i % vocabulary];
        const at = Math.floor(row / length) * tokens + from + (row % length);
        if (mask[at] === 1) largest = Math.max(largest, Math.abs(value - expected[at * vocabulary + channel]!));
      }
      return largest;
    };
    const run = async (m: Model, more: Record<string, RuntimeTensor>) => {
      const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
      const all = { ...feeds, ...more };
      const result = await session.run(Object.fromEntries(session.inputNames.map((n) => [n, all[n]!])));
      await session.close();
      return result;
    };
    // ONNX Runtime's own kernel wants heads of 16 channels for rotary positions; the lowered form of the merged file has none.
    const lowered = await run(cutCache(prepareModel(merged)), {});
    expect(difference(lowered["logits"]!, 0)).toBeLessThan(1e-5);
    const past = (result: Record<string, RuntimeTensor> | null): Record<string, RuntimeTensor> =>
      Object.fromEntries(
        [0, 1].flatMap((layer) =>
          ["key", "value"].map((part): [string, RuntimeTensor] => [
            `past_key_values.${layer}.${part}`,
            result?.[`present.${layer}.${part}`] ?? {
              type: "float32",
              dims: [batch, 2, 0, 8],
              data: new Float32Array(0),
            },
          ]),
        ),
      );
    const given = adapterFeeds(swappable, adapter);
    const whole = await run(swappable.model, { ...given, ...past(null) });
    expect(difference(whole["logits"]!, 0)).toBeLessThan(1e-5);
    const part = (from: number, to: number): RuntimeTensor => {
      const all = Array.from(feeds["input_ids"]!.data as BigInt64Array);
      const data = Array.from({ length: batch }, (_, b) => all.slice(b * tokens + from, b * tokens + to)).flat();
      return { type: "int64", dims: [batch, to - from], data: BigInt64Array.from(data) };
    };
    const first = await run(swappable.model, { ...given, ...past(null), input_ids: part(0, 6) });
    const second = await run(swappable.model, {
      ...given,
      ...past(first as Record<string, RuntimeTensor>),
      input_ids: part(6, tokens),
    });
    expect(difference(second["logits"]!, 6)).toBeLessThan(1e-5);
  });
});
