import { describe, expect, test } from "vitest";
import { matrixFrom, multiply } from "../linalg/matrix.ts";
import { svd } from "../linalg/svd.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { arrow } from "../methods/arrow.ts";
import type { Model } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import type { Adapter } from "./adapter.ts";
import { arrowAdapter, prototypeOf } from "./arrow.ts";
import { mergeAdapter } from "./merge.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";
import { goldenAdapter, goldenInputs, goldenModel, goldenRouters, goldenTensor } from "./testing/golden-routers.ts";
import { movedAdapter } from "./testing/moved-adapter.ts";
import { tinyModel } from "./testing/tiny-model.ts";

const { tasks, arrow: runs } = goldenRouters;

async function run(
  model: Model,
  router: Adapter,
  inputs: Readonly<Record<string, RuntimeTensor>>,
): Promise<Float32Array> {
  const swappable = makeSwappable(model, { method: arrow, config: router.config });
  const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
  const feeds = { ...inputs, ...adapterFeeds(swappable, router) };
  const known = Object.fromEntries(session.inputNames.map((name) => [name, feeds[name]!]));
  const { logits } = await session.run(known, ["logits"]);
  await session.close();
  return logits!.data as Float32Array;
}

describe.each(["model_torchscript.onnx", "model_dynamo.onnx"])("over %s", (file) => {
  test.each(Object.keys(runs))("%s gives peft's logits", async (name) => {
    const { top_k: topK, router_temperature: routerTemperature = 1, use_gks: isWithout = false } = runs[name]!;
    const router = arrowAdapter(tasks.map(goldenAdapter), {
      topK,
      routerTemperature,
      ...(isWithout ? { general: ["general0", "general1"].map(goldenAdapter) } : {}),
    });
    const found = await run(await goldenModel("bert", file), router, goldenInputs("input"));
    const expected = goldenTensor(`${name}.logits`);
    expect(found.length).toBe(expected.length);
    for (let i = 0; i < found.length; i++) expect(Math.abs(found[i]! - expected[i]!)).toBeLessThan(1e-5);
  });
});

test("a prototype is the top right singular vector", () => {
  const random = testRandom(3);
  const [A, B] = [matrixFrom(3, 7, () => random() * 2 - 1), matrixFrom(5, 3, () => random() * 2 - 1)];
  const { vt } = svd(multiply(B, A));
  const found = prototypeOf({ A, B });
  const sign = Math.sign(found[0]! * vt.data[0]!);
  for (let i = 0; i < 7; i++) expect(found[i]).toBeCloseTo(sign * vt.data[i]!, 10);
  expect([...prototypeOf({ A, B: matrixFrom(5, 3, () => 0) })]).toEqual(new Array(7).fill(0));
});

describe("limits", () => {
  const model = prepareModel(tinyModel());
  const ids: RuntimeTensor = {
    type: "int64",
    dims: [2, 5],
    data: BigInt64Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], BigInt),
  };
  const lora = (seed: number, config: object): Adapter => movedAdapter(model, "LORA", { r: 2, ...config }, seed);

  test("one expert is that adapter, whatever its rank and modules", async () => {
    const only = lora(1, { alpha: 5, targetModules: "all-linear" });
    const session = await onnxruntimeNode.open(encodeModel(mergeAdapter(model, only)), { threads: 1 });
    const expected = (await session.run({ input_ids: ids }, ["logits"]))["logits"]!.data as Float32Array;
    await session.close();
    const found = await run(model, arrowAdapter([only]), { input_ids: ids });
    found.forEach((v, i) => {
      expect(v).toBeCloseTo(expected[i]!, 5);
    });
  });

  test("experts of other ranks and modules go together; those that cannot are refused", async () => {
    const list = [lora(1, { targetModules: ["query"] }), lora(2, { r: 3, targetModules: ["query", "up"] })];
    const router = arrowAdapter(list);
    expect(router.config).toMatchObject({ experts: 2, r: 3, topK: 2 });
    expect((await run(model, router, { input_ids: ids })).every(Number.isFinite)).toBe(true);
    const code = (expected: string) => expect.objectContaining({ code: expected });
    expect(() => arrowAdapter([])).toThrow(code("NO_EXPERTS"));
    expect(() => arrowAdapter([movedAdapter(model, "VERA", { r: 2, targetModules: ["query"] }, 1)])).toThrow(
      code("NOT_LORA"),
    );
    expect(() => arrowAdapter([lora(1, { targetModules: ["word_embeddings"] })])).toThrow(code("NOT_LORA"));
    expect(() => arrowAdapter([lora(1, { targetModules: ["query"], modulesToSave: ["classifier"] })])).toThrow(
      code("EXPERT_HEAD"),
    );
    expect(() => arrowAdapter(list, { general: list })).toThrow(code("EXPERTS_DIFFER"));
    const tooMany = () => makeSwappable(model, { method: arrow, config: { ...router.config, topK: 3 } });
    expect(tooMany).toThrow(code("CONFIG_INVALID"));
  });
});
