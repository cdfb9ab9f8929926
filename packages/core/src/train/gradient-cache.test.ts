import { describe, expect, test } from "vitest";
import { parameterTensors } from "../adapters/adapter.ts";
import { type AdaptedGraph, adapterValues, injectAdapter } from "../adapters/inject.ts";
import type { AdapterConfigInput } from "../adapters/select.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { crossEntropy } from "../losses/cross-entropy.ts";
import type { LossParts } from "../losses/loss-parts.ts";
import { multipleNegatives } from "../losses/multiple-negatives.ts";
import { normalizeRows } from "../losses/similarity.ts";
import { suppliedGradient } from "../losses/supplied-gradient.ts";
import { methodOf } from "../methods/registry.ts";
import { startValues } from "../methods/testing/start-values.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { buildAdapterProgram } from "./adapter-program.ts";
import { createEngine, type Engine } from "./engine.ts";
import { openGradientCache } from "./gradient-cache.ts";
import { buildEvaluationProgram } from "./program.ts";

const [HIDDEN, EMBEDDING, VOCABULARY] = [6, 4, 9];
type Tower = "image" | "text";
const outputOf = { image: "image_embeds", text: "text_embeds" } as const;

/** Towers of two linear layers: an image's features, or the mean of a text's tokens, to an embedding. */
function towers(...kept: readonly Tower[]): Model {
  const g = createBuilder(17);
  for (const tower of kept) {
    const random = testRandom(tower.length);
    const weight = (name: string, ...dims: number[]): Value => {
      const data = Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => 2 * random() - 1);
      return g.initializer(`${tower}.${name}`, tensorFrom("float32", dims, data));
    };
    const dense = (x: Value, i: number, size: number): Value => {
      const operands = [weight(`dense.${i}.weight`, size, HIDDEN), weight(`dense.${i}.bias`, size)];
      return g.op("Gemm", [x, ...operands], { transB: 1 }, { name: `/${tower}/dense.${i}/Gemm` })[0] as Value;
    };
    const x =
      tower === "image"
        ? g.input("features", "float32", ["images", HIDDEN])
        : g.reduceMean(
            g.gather(weight("table", VOCABULARY, HIDDEN), g.input("ids", "int64", ["texts", 3])),
            [1],
            false,
          );
    g.output(dense(g.tanh(dense(x, 0, HIDDEN)), 1, EMBEDDING), outputOf[tower]);
  }
  return toModel(g.finish(), 17);
}

/** Rows `from` to `to` of the feeds of a tower. */
function rows(tower: Tower, from: number, to: number): Feeds {
  const random = testRandom(40 + tower.length);
  const width = tower === "image" ? HIDDEN : 3;
  const all = Array.from({ length: 8 * width }, random).slice(from * width, to * width);
  const dims = [to - from, width];
  if (tower === "image") return { features: { type: "float32", dims, data: Float32Array.from(all) } };
  return { ids: { type: "int64", dims, data: BigInt64Array.from(all, (v) => BigInt(Math.floor(v * VOCABULARY))) } };
}

type Embeddings = Readonly<Record<string, Value>>;
type Loss = (g: Builder, embeddings: Embeddings) => LossParts;

/** An engine over towers with an adapter: a loss of its own, or supplied gradients. Its steps are plain gradients. */
async function openTowers(kept: readonly Tower[], type: string, loss: Loss): Promise<Engine> {
  const config = { targetModules: ["dense.0", "dense.1"] } as AdapterConfigInput;
  const adapt = (training: boolean) => injectAdapter(towers(...kept), { method: methodOf(type), config, training });
  const outputs = ({ outputs }: AdaptedGraph): Embeddings => Object.fromEntries(outputs);
  const [adapted, forward] = [adapt(true), adapt(false)];
  return createEngine(onnxruntimeNode, {
    training: buildAdapterProgram(adapted, loss(adapted.g, outputs(adapted))),
    evaluation: buildEvaluationProgram(forward.g, outputs(forward), adapterValues(forward)),
    parameters: parameterTensors(adapted.parameters, startValues(adapted, 3)),
    optimizer: { type: "sgd", learningRate: 1 },
    ...{ seed: 1, threads: 1 },
  });
}

const sizes = { image_embeds: EMBEDDING, text_embeds: EMBEDDING };
const contrast: Loss = (g, { image_embeds, text_embeds }) =>
  multipleNegatives(g, { anchors: image_embeds!, positives: text_embeds! }, { temperature: 0.1, symmetric: true });
/** Images choose among the texts: class prompts. */
const classes: Loss = (g, { image_embeds, text_embeds }) =>
  crossEntropy(g, {
    logits: g.gemm(normalizeRows(g, image_embeds!), normalizeRows(g, text_embeds!), null, { transB: true, alpha: 10 }),
    labels: g.input("labels", "int64", [image_embeds!.shape[0]!]),
  });
const labels: RuntimeTensor = { type: "int64", dims: [8], data: BigInt64Array.from([0, 1, 2, 3, 4, 0, 1, 2], BigInt) };

const ranges = (count: number, size: number): [number, number][] =>
  Array.from({ length: Math.ceil(count / size) }, (_, i) => [i * size, Math.min(count, (i + 1) * size)]);
const chunksOf = (tower: Tower, count: number, size: number): Feeds[] =>
  ranges(count, size).map(([from, to]) => rows(tower, from, to));

/** All parameters of some engines, by name. */
async function parametersOf(...engines: readonly Engine[]): Promise<Map<string, Float32Array>> {
  const states = await Promise.all(engines.map((engine) => engine.state()));
  return new Map(
    states.flatMap(({ parameters }) =>
      Object.entries(parameters).map(([name, { data }]) => [name, data as Float32Array] as const),
    ),
  );
}

async function expectSame(found: readonly Engine[], expected: Engine): Promise<void> {
  const [a, b] = [await parametersOf(...found), await parametersOf(expected)];
  expect([...a.keys()].sort()).toEqual([...b.keys()].sort());
  for (const [name, data] of b) {
    const apart = data.map((v, i) => Math.abs(v - a.get(name)![i]!));
    expect(Math.max(...apart)).toBeLessThan(1e-5);
  }
}

describe.each(["SVF", "LORA"])("%s: chunks with supplied gradients make the steps of one graph", (type) => {
  test.each([1, 3, 8])("both towers, pairs in chunks of %d", async (size) => {
    const one = await openTowers(["image", "text"], type, contrast);
    const cached = await openTowers(["image", "text"], type, suppliedGradient);
    await using cache = await openGradientCache({ embeddings: sizes, loss: contrast, threads: 1 });
    const chunks = ranges(8, size).map(([from, to]) => ({ ...rows("image", from, to), ...rows("text", from, to) }));
    for (let step = 0; step < 3; step++) {
      const whole = await one.step({
        step,
        runs: [{ ...rows("image", 0, 8), ...rows("text", 0, 8) }],
        learningRateScale: 1,
      });
      const { loss, runs } = await cache.gradients([{ chunks, embed: cached.evaluate }]);
      const result = await cached.step({ step, runs: runs[0]!, learningRateScale: 1 });
      for (const found of [loss, result.loss]) expect(Math.abs(found - whole.loss)).toBeLessThan(1e-5);
      expect(result.weight).toBeCloseTo(8, 5);
      expect(Math.abs(result.gradNorm - whole.gradNorm)).toBeLessThan(1e-5 * whole.gradNorm);
      await expectSame([cached], one);
    }
    await Promise.all([one.close(), cached.close()]);
  });
  test.each([
    [2, 1],
    [8, 2],
    [3, 5],
  ])("towers apart: 8 images in chunks of %d, 5 prompts in chunks of %d", async (images, prompts) => {
    const one = await openTowers(["image", "text"], type, classes);
    const image = await openTowers(["image"], type, suppliedGradient);
    const text = await openTowers(["text"], type, suppliedGradient);
    await using cache = await openGradientCache({ embeddings: sizes, loss: classes, threads: 1 });
    for (let step = 0; step < 3; step++) {
      const whole = { ...rows("image", 0, 8), ...rows("text", 0, 5), labels };
      const { loss } = await one.step({ step, runs: [whole], learningRateScale: 1 });
      const { runs } = await cache.gradients(
        [
          { chunks: chunksOf("image", 8, images), embed: image.evaluate },
          { chunks: chunksOf("text", 5, prompts), embed: text.evaluate },
        ],
        { labels },
      );
      for (const [i, engine] of [image, text].entries()) {
        const result = await engine.step({ step, runs: runs[i]!, learningRateScale: 1 });
        expect(Math.abs(result.loss - loss)).toBeLessThan(1e-5);
      }
      await expectSame([image, text], one);
    }
    await Promise.all([one, image, text].map((engine) => engine.close()));
  });
});

test("dropout is refused: the two passes would differ", () => {
  const config = { r: 2, dropout: 0.1, targetModules: ["dense.0"] };
  const { g, outputs } = injectAdapter(towers("text"), {
    method: methodOf("LORA"),
    config: config as AdapterConfigInput,
    training: true,
  });
  expect(() => suppliedGradient(g, Object.fromEntries(outputs))).toThrow(
    expect.objectContaining({ code: "LOSS_OPTION" }),
  );
});

test("embeddings of a kind come from one tower, and from all its chunks", async () => {
  await using cache = await openGradientCache({ embeddings: sizes, loss: contrast, threads: 1 });
  const embedding: RuntimeTensor = { type: "float32", dims: [1, EMBEDDING], data: new Float32Array(EMBEDDING) };
  const both = { chunks: [{}], embed: async () => ({ image_embeds: embedding, text_embeds: embedding }) };
  await expect(cache.gradients([both, both])).rejects.toThrow(
    /"image_embeds" from all chunks of one tower, received it from 2 of 2/,
  );
  let calls = 0;
  const some = { chunks: [{}, {}], embed: async () => (calls++ === 0 ? { image_embeds: embedding } : {}) };
  await expect(cache.gradients([some])).rejects.toMatchObject({ code: "EMBEDDINGS" });
});
