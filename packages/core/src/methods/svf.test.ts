import { describe, expect, test } from "vitest";
import { convertToLora } from "../adapters/convert-to-lora.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import type { SiteShape } from "../adapters/site.ts";
import { movedAdapter } from "../adapters/testing/moved-adapter.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { matrix, multiply, transpose } from "../linalg/matrix.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { type AdapterTensor, type Method, parameterCount } from "./method.ts";
import { svf } from "./svf.ts";
import { type OneSite, runOneSite, startOf } from "./testing/one-site.ts";
import { regression, tinyTraining } from "./testing/tiny-training.ts";
import { toyModel } from "./testing/toy-layers.ts";

const random = testRandom(91);
const draw = (...dims: number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});
const [weight, bias] = [draw(7, 5), draw(7).data];
const layer = (config: object = {}): OneSite => ({
  method: svf as unknown as Method,
  config: { ...config },
  weight,
  bias,
});
const near = (a: ArrayLike<number>, b: ArrayLike<number>, tolerance = 1e-5): void => {
  const scale = Math.max(1, ...Array.from(b, Math.abs));
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(tolerance * scale);
};
const [x, dy] = [draw(4, 5), draw(28).data];
/** x·Wᵀ + c. */
const outputs = (w: ArrayLike<number>): Float64Array =>
  Float64Array.from({ length: 28 }, (_, i) =>
    [0, 1, 2, 3, 4].reduce((sum, j) => sum + x.data[Math.floor(i / 7) * 5 + j]! * w[(i % 7) * 5 + j]!, bias[i % 7]!),
  );

describe("the function", () => {
  test("starts as the base: its sum and its factors", async () => {
    const absolute = layer({ parametrization: "absolute" });
    near((await runOneSite(absolute, startOf(absolute), x, dy)).y, outputs(weight.data), 1e-4);
    near((await runOneSite(layer(), startOf(layer()), x, dy)).y, outputs(weight.data));
  });
  test("singular values a times as large are the weight times a", async () => {
    for (const parametrization of ["delta", "absolute"]) {
      const at = layer({ parametrization });
      const start = startOf(at);
      const s = { dims: start["s"]!.dims, data: start["s"]!.data.map((v) => 1.7 * v) };
      near((await runOneSite(at, { ...start, s }, x, dy)).y, outputs(weight.data.map((v) => 1.7 * v)));
    }
  });
  test("turning the signs of a pair of vectors changes nothing", async () => {
    const start: Record<string, AdapterTensor> = { ...startOf(layer()), s: draw(5) };
    const turned = {
      ...start,
      U: { dims: [7, 5], data: start["U"]!.data.map((v, i) => (i % 5 === 2 ? -v : v)) },
      V: { dims: [5, 5], data: start["V"]!.data.map((v, i) => (Math.floor(i / 5) === 2 ? -v : v)) },
    };
    const [a, b] = [await runOneSite(layer(), start, x, dy), await runOneSite(layer(), turned, x, dy)];
    near(b.y, a.y, 1e-6);
    near(b.gradients["s"]!, a.gradients["s"]!, 1e-6);
  });
  test("the gradient is the diagonal of Uᵀ·dW·Vᵀ, and that of finite differences", async () => {
    const start: Record<string, AdapterTensor> = { ...startOf(layer()), s: draw(5) };
    const { gradients } = await runOneSite(layer(), start, x, dy);
    const dW = multiply(transpose(matrix(4, 7, dy)), matrix(4, 5, x.data));
    const u = matrix(7, 5, start["U"]!.data);
    const product = multiply(multiply(u, dW, { transA: true }), matrix(5, 5, start["V"]!.data), { transB: true });
    near(
      gradients["s"]!,
      [0, 1, 2, 3, 4].map((k) => product.data[k * 6]!),
    );
    const sumAt = async (k: number, h: number): Promise<number> => {
      const s = { dims: [5], data: start["s"]!.data.map((v, i) => (i === k ? v + h : v)) };
      return (await runOneSite(layer(), { ...start, s }, x, dy)).y.reduce((sum, v, i) => sum + v * dy[i]!, 0);
    };
    for (const k of [0, 4]) near([((await sumAt(k, 0.1)) - (await sumAt(k, -0.1))) / 0.2], [gradients["s"]![k]!], 1e-4);
  });
});

describe("training", () => {
  const layers = [5, 6].map((width, i) => ({ weight: draw([6, 3][i]!, width), bias: draw([6, 3][i]!).data }));
  const task = regression(toyModel(layers), draw(8, 5), draw(8, 3));
  const optimizer = { type: "adamw", learningRate: 0.05, weightDecay: 0.1 } as const;
  const train = async (config: object) => {
    const { engine, steps } = await tinyTraining("SVF", { ...config, targetModules: ["dense"] }, { task, optimizer });
    const losses = await steps(0, 10);
    const { parameters } = await engine.state();
    await engine.close();
    return { losses, parameters };
  };
  test("both forms make the same ten steps, for decay to zero and to the base, which differ", async () => {
    const ends: number[] = [];
    for (const decayTowards of ["zero", "base"]) {
      const [delta, absolute] = [
        await train({ decayTowards }),
        await train({ decayTowards, parametrization: "absolute" }),
      ];
      near(delta.losses, absolute.losses);
      ends.push(delta.losses.at(-1)!);
    }
    expect(Math.abs(ends[0]! - ends[1]!)).toBeGreaterThan(1e-5);
  });
  test("decay to the base shrinks s - s0, decay to zero s itself", async () => {
    const still = regression(
      task.model,
      { dims: [1, 5], data: new Float32Array(5) },
      { dims: [1, 3], data: new Float32Array(3) },
    );
    // With x = 0 the first layer has no gradient: only decay moves it.
    for (const [decayTowards, key] of [
      ["zero", "svf_s"],
      ["base", "svf_shift"],
    ] as const) {
      const { engine, steps, values } = await tinyTraining(
        "SVF",
        { decayTowards, targetModules: ["layer.0.dense"] },
        { task: still, optimizer, start: (all) => all.get(`layer.0.dense.${key}`)!.fill(2) },
      );
      await steps(0, 3);
      for (const v of await values(`layer.0.dense.${key}`)) expect(v).toBeCloseTo(2 * (1 - 0.05 * 0.1) ** 3, 5);
      await engine.close();
    }
  });
});

describe("files and models", () => {
  const model = prepareModel(tinyModel());
  const adapter = movedAdapter(model, "SVF", { targetModules: ["query", "intermediate.dense"] }, 3);
  const logitsOf = async (m: Model): Promise<Float32Array> => {
    const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
    const input = { type: "int64", dims: [2, 3], data: BigInt64Array.from([1, 2, 3, 4, 5, 6], BigInt) } as const;
    const { logits } = await session.run({ input_ids: input }, ["logits"]);
    await session.close();
    return logits!.data as Float32Array;
  };
  test("as LoRA of full rank it is the merged model", async () => {
    const { adapter: converted, error } = convertToLora(model, adapter, { rank: 8 });
    expect(error).toBeLessThan(1e-6);
    near(await logitsOf(mergeAdapter(model, converted)), await logitsOf(mergeAdapter(model, adapter)));
  });
  test("another base model is refused by its singular values", () => {
    expect(() => mergeAdapter(prepareModel(tinyModel(5)), adapter)).toThrow(
      expect.objectContaining({ code: "BASE_MISMATCH" }),
    );
  });
  test("query, key and value of one packed product have a decomposition each", () => {
    const size = 4;
    const g = createBuilder(17);
    const constant = (name: string, ...dims: number[]) =>
      g.initializer(name, tensorFrom("float32", dims, [...draw(...dims).data]));
    const input = g.input("x", "float32", ["batch", "tokens", size]);
    const [y] = g.op(
      "MatMul",
      [input, constant("Attention_0_qkv_weight", size, 3 * size)],
      {},
      { name: "Attention_0/MatMul" },
    );
    const [q, k, v] = g.split(g.add(y!, constant("Attention_0_qkv_bias", 3 * size)), [size, size, size], 2);
    const weights = g.softmax(g.matMul(q!, g.transpose(k!, [0, 2, 1])));
    const [attended] = g.op("MatMul", [weights, v!], {}, { outputs: ["/layer.0/attention/self/Reshape_3_output_0"] });
    const [out] = g.op(
      "MatMul",
      [attended!, constant("onnx::MatMul_9", size, size)],
      {},
      { name: "/layer.0/attention/output/dense/MatMul" },
    );
    g.output(out!, "y");
    const packed = toModel(g.finish(), 17);
    const { parameters } = injectAdapter(packed, { method: svf, config: { targetModules: ["query", "key", "value"] } });
    const trained = parameters.filter((p) => p.trainable);
    expect(trained.map((p) => [p.site.split(".").at(-1), p.shape])).toEqual(
      ["query", "key", "value"].map((name) => [name, [size]]),
    );
  });
  test("92,160 for CLIP ViT-B/16 and 110,592 for BiomedCLIP, from shapes alone", () => {
    const site = (inFeatures: number, outFeatures: number): SiteShape => ({
      ...{ name: "s", kind: "linear", inFeatures, outFeatures, weightShape: [outFeatures, inFeatures], hasBias: true },
    });
    const tower = (width: number, layers = 12): SiteShape[] =>
      Array.from({ length: layers }, () => [
        ...Array.from({ length: 4 }, () => site(width, width)),
        site(width, 4 * width),
        site(4 * width, width),
      ]).flat();
    const countOf = (sites: SiteShape[]): number => parameterCount(svf, svf.config.parse({}), sites);
    expect(countOf([...tower(768), ...tower(512)])).toBe(92_160);
    expect(countOf([...tower(768), ...tower(768)])).toBe(110_592);
  });
});
