import { describe, expect, test } from "vitest";
import { type Adapter, adapterOf, initialParameters } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { type AdapterConfigInput, parseAdapterConfig } from "../adapters/select.ts";
import { flatEncoder } from "../adapters/testing/flat-encoder.ts";
import { movedAdapter } from "../adapters/testing/moved-adapter.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { mam, unipelt } from "./composition.ts";
import { composed, methodOf } from "./registry.ts";
import { tinyTraining } from "./testing/tiny-training.ts";

const model = prepareModel(tinyModel());
const ids = { type: "int64", dims: [2, 4], data: BigInt64Array.from([1, 2, 3, 4, 9, 8, 7, 6], BigInt) } as const;

async function logitsOf({ type, config, tensors }: Adapter): Promise<Float32Array> {
  const { g, outputs, parameters } = injectAdapter(model, {
    method: methodOf(type),
    config,
    wantedOutputs: ["logits"],
  });
  g.output(outputs.get("logits")!, "logits");
  const session = await openBuilder(g);
  const feeds = parameters.map((p) => [p.name, { type: "float32", ...tensors.get(p.name)! }] as const);
  const { logits } = await session.run({ input_ids: ids, ...Object.fromEntries(feeds) });
  await session.close();
  return logits!.data as Float32Array;
}
const distance = (a: Float32Array, b: Float32Array): number =>
  a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);

const parts = (...list: readonly object[]) => ({ parts: list }) as AdapterConfigInput;
const lora = { method: "LORA", config: { r: 2, targetModules: ["query", "output.dense"] } };
const houlsby = { method: "BOTTLENECK", config: { placement: "houlsby", reductionFactor: 2 } };
const prefix = { numVirtualTokens: 3, encoderHiddenSize: 5 };

/** An adapter of one part, with the tensors that a composition has for it. */
function partOf(whole: Adapter, type: string, config: object): Adapter {
  const { parameters } = injectAdapter(model, { method: methodOf(type), config: config as AdapterConfigInput });
  const tensors = new Map(parameters.map((p) => [p.name, whole.tensors.get(p.name)!]));
  return { type, config: parseAdapterConfig(methodOf(type), config as AdapterConfigInput), tensors };
}

describe("what a composition is", () => {
  test("of one part: that method", async () => {
    const whole = movedAdapter(model, "COMPOSITION", parts(lora) as never, 3);
    expect(await logitsOf(whole)).toEqual(await logitsOf(partOf(whole, "LORA", lora.config)));
  });

  test("it does not merge, and says why", () => {
    const whole = movedAdapter(model, "COMPOSITION", parts(lora) as never, 4);
    expect(() => mergeAdapter(model, whole)).toThrow(expect.objectContaining({ code: "NO_DELTA" }));
  });

  test("where parts meet the later one adapts what the earlier one made", async () => {
    const whole = movedAdapter(model, "COMPOSITION", parts(lora, houlsby) as never, 5);
    const first = mergeAdapter(model, partOf(whole, "LORA", lora.config));
    const { g, outputs, parameters } = injectAdapter(first, {
      method: methodOf("BOTTLENECK"),
      config: houlsby.config as never,
    });
    g.output(outputs.get("logits")!, "logits");
    const session = await openBuilder(g);
    const feeds = parameters.map((p) => [p.name, { type: "float32", ...whole.tensors.get(p.name)! }] as const);
    const { logits } = await session.run({ input_ids: ids, ...Object.fromEntries(feeds) });
    await session.close();
    expect(distance(await logitsOf(whole), logits!.data as Float32Array)).toBeLessThan(1e-5);
  });
});

describe("gates", () => {
  const config = unipelt({
    prefixTuning: prefix,
    adapter: { reductionFactor: 2, nonLinearity: "tanh" },
    lora: { r: 2, targetModules: ["query", "value"] },
  });
  /** All gates of a method open or shut: their biases decide. */
  const withGates = (adapter: Adapter, open: string): Adapter => ({
    ...adapter,
    tensors: new Map(
      [...adapter.tensors].map(([name, tensor]) => {
        if (!/_gate\.(weight|bias)$/.test(name)) return [name, tensor];
        const value = name.endsWith("weight") ? 0 : name.includes(open) ? 60 : -60;
        return [name, { ...tensor, data: tensor.data.map(() => value) }];
      }),
    ),
  });

  test("of the adapter and of LoRA at 1 and 0: UniPELT is its first part, or its second", async () => {
    const two = { parts: config.parts.slice(1) };
    const whole = movedAdapter(model, "COMPOSITION", two, 6);
    const [, adapter, own] = config.parts;
    const { useGating: _, ...ungated } = adapter!.config;
    const alone = await logitsOf(partOf(whole, "BOTTLENECK", ungated));
    const second = await logitsOf(partOf(whole, "LORA", own!.config));
    expect(distance(await logitsOf(withGates(whole, "adapter_gate")), alone)).toBeLessThan(1e-5);
    expect(distance(await logitsOf(withGates(whole, "lora_gate")), second)).toBeLessThan(1e-5);
    expect(distance(alone, second)).toBeGreaterThan(1e-2);
  });

  test("start near a half, one for each place and sequence", () => {
    const adapted = injectAdapter(model, { method: composed, config });
    const gates = adapterOf(adapted, initialParameters(adapted, 1)).tensors;
    const names = [...gates.keys()].filter((name) => name.endsWith("_gate.bias"));
    // Two attention blocks, two feed-forward parts, query and value of two layers.
    expect(names).toHaveLength(2 + 2 + 4);
    for (const name of names) expect([...gates.get(name)!.data]).toEqual([0]);
  });
});

test("where hidden states are [batch * tokens, hidden] gates are one for each sequence too", async () => {
  const flat = prepareModel(flatEncoder());
  const config = unipelt({
    prefixTuning: prefix,
    adapter: { reductionFactor: 2 },
    lora: { r: 2, targetModules: ["query"] },
  });
  const adapted = injectAdapter(flat, { method: composed, config, wantedOutputs: ["logits"] });
  adapted.g.output(adapted.outputs.get("logits")!, "logits");
  const random = testRandom(4);
  const values = adapted.parameters.map(({ name, shape }) => {
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1);
    return [name, { type: "float32", dims: shape, data }] as const;
  });
  const session = await openBuilder(adapted.g);
  const run = async (rows: readonly number[][]): Promise<Float32Array> => {
    const dims = [rows.length, rows[0]!.length];
    const tensor = (data: bigint[]) => ({ type: "int64", dims, data: BigInt64Array.from(data) }) as const;
    const feeds = {
      input_ids: tensor(rows.flat().map(BigInt)),
      attention_mask: tensor(rows.flat().map(() => 1n)),
      ...Object.fromEntries(values),
    };
    return (await session.run(feeds))["logits"]!.data as Float32Array;
  };
  const [first, second] = [
    [1, 2, 3, 4],
    [9, 8, 7, 6],
  ];
  const together = await run([first!, second!]);
  const alone = [...(await run([first!])), ...(await run([second!]))];
  await session.close();
  expect(distance(together, Float32Array.from(alone))).toBeLessThan(1e-5);
  expect(distance(together.slice(0, 3), together.slice(3))).toBeGreaterThan(1e-2);
});

test("MAM is a prefix and a scaled parallel adapter, with AdapterHub's sizes", () => {
  const { parts: list } = mam();
  expect(list.map(({ method, gated }) => [method, gated])).toEqual([
    ["PREFIX_TUNING", false],
    ["BOTTLENECK", false],
  ]);
  const adapted = injectAdapter(model, { method: composed, config: mam({ prefixTuning: prefix }) });
  const shapes = new Map(adapted.parameters.map((p) => [p.name, p.shape]));
  expect(shapes.get("encoder.layer.0.output.dense.adapter_down.weight")).toEqual([4, 8]);
  expect(adapted.plans.filter(({ site }) => site.kind === "attention")).toHaveLength(2);
});

describe("refusals", () => {
  const inject = (config: object) => () =>
    injectAdapter(model, { method: composed, config: config as AdapterConfigInput });
  test.each([
    ["two parts of one type", parts(lora, lora), "PARTS"],
    [
      "two prefixes of different kinds",
      parts(
        { method: "PREFIX_TUNING", config: prefix },
        { method: "ADAPTION_PROMPT", config: { adapterLen: 2, adapterLayers: 1 } },
      ),
      "PARTS",
    ],
    ["a composition in a composition", parts({ method: "COMPOSITION", config: {} }), "CONFIG_INVALID"],
    ["modules of the whole", { ...parts(lora), targetModules: ["query"] }, "TARGETS_INVALID"],
    ["an unknown method", parts({ method: "LOAR", config: {} }), "UNKNOWN_METHOD"],
    ["an option that a part has not", parts({ ...lora, config: { ...lora.config, rank: 3 } }), "CONFIG_INVALID"],
    [
      "a gate on replaced values",
      parts({ method: "BITFIT", config: { targetModules: ["query"] }, gated: true }),
      "NO_GATE",
    ],
  ])("%s", (_, config, code) => {
    expect(inject(config)).toThrow(expect.objectContaining({ code }));
  });
});

test("a part's schedule runs, and its state is resumed in the middle", async () => {
  const config = parts(
    {
      method: "ADALORA",
      config: { initR: 3, targetR: 1, tinit: 2, tfinal: 4, deltaT: 2, totalStep: 20, targetModules: ["query", "up"] },
    },
    { ...houlsby, config: { ...houlsby.config, mhAdapter: false } },
  ) as never;
  const whole = await tinyTraining("COMPOSITION", config);
  const losses = await whole.steps(0, 20);
  const ranks = async (name: string): Promise<number> => (await whole.values(name)).filter((e) => e !== 0).length;
  const names = whole.adapted.parameters.filter((p) => p.role === "E").map((p) => p.name);
  const kept = await Promise.all(names.map(ranks));
  expect(kept.reduce((a, b) => a + b, 0)).toBe(names.length);
  const first = await tinyTraining("COMPOSITION", config);
  await first.steps(0, 9);
  const second = await tinyTraining("COMPOSITION", config);
  await second.engine.restore(await first.engine.state());
  expect(await second.steps(9, 20)).toEqual(losses.slice(9));
  for (const { engine } of [whole, first, second]) await engine.close();
});
