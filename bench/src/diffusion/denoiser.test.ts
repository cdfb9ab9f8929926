import { fileURLToPath } from "node:url";
import {
  createBuilder,
  encodeModel,
  findSites,
  type Model,
  onnxruntimeNode,
  type RuntimeTensor,
  readSafetensors,
  type TensorData,
  tensorFrom,
  toFloat32Array,
  toModel,
  toNumbers,
  weightReader,
} from "@onnx-peft/core";
import { expect, test } from "vitest";
import { CAPTION_TOKENS, createVocabulary } from "./captions.ts";
import { denoiserModel } from "./denoiser.ts";
import { denoisingLoss } from "./denoising-loss.ts";
import { diffusionTransformer } from "./diffusion-transformer.ts";
import { IMAGE_SIZE, readEmojis, splitEmojis } from "./emoji.ts";
import { signal } from "./noise.ts";
import { pretrainDenoiser } from "./pretrain-denoiser.ts";
import { pretrainingFigures } from "./pretraining-figures.ts";
import { restore } from "./restore.ts";
import { drawSubject } from "./subject.ts";
import { textEncoder } from "./text-encoder.ts";
import { judgeSubject } from "./tune-subject.ts";

/** CLIPTextModel and PixArtTransformer2DModel of small configs; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../parity/golden/diffusion.safetensors", import.meta.url));

test("with the weights of transformers' text encoder and diffusers' PixArt it has their outputs", async () => {
  const { tensors } = await readSafetensors(golden);
  const weights = new Map<string, TensorData>();
  for (const [name, tensor] of tensors)
    if (name.startsWith("weight."))
      weights.set(name.replace(/^weight\.(?=embeddings|encoder|final)/, "text_model.").replace("weight.", ""), tensor);
  const g = createBuilder(21);
  const w = weightReader(g, weights);
  const captions = textEncoder(g, w, { vocabulary: 20, hiddenSize: 24, layers: 2, heads: 2 });
  g.output(captions.states, "states");
  const sizes = { patchSize: 8, hiddenSize: 32, layers: 2, heads: 2, textSize: 24 };
  g.output(diffusionTransformer(g, w, captions, sizes), "out_sample");
  w.check();
  const session = await onnxruntimeNode.open(encodeModel(toModel(g.finish({ name: "golden" }), 21)), { threads: 1 });
  const feeds = ["sample", "timestep", "input_ids", "attention_mask"].map((name): [string, RuntimeTensor] => {
    const tensor = tensors.get(`input.${name}`) as TensorData;
    const { type, dims } = tensor;
    if (type === "int64") return [name, { type, dims, data: BigInt64Array.from(toNumbers(tensor), BigInt) }];
    return [name, { type: "float32", dims, data: toFloat32Array(tensor) }];
  });
  const outputs = await session.run(Object.fromEntries(feeds));
  await session.close();
  const mask = toNumbers(tensors.get("input.attention_mask") as TensorData);
  for (const name of ["states", "out_sample"]) {
    const all = toFloat32Array(tensors.get(`output.${name}`) as TensorData);
    // Nobody looks at the states of padding, which see each other here and nothing there.
    const isRead = (i: number): boolean => name !== "states" || mask[Math.floor(i / 24)] === 1;
    const wanted = all.map((v, i) => (isRead(i) ? v : 0));
    const scale = Math.max(...wanted.map(Math.abs));
    const found = outputs[name]?.data as Float32Array;
    expect(
      Math.max(...wanted.map((v, i) => (isRead(i) ? Math.abs(v - (found[i] as number)) : 0))) / scale,
    ).toBeLessThan(1e-5);
  }
});

test("a short pre-training, and an adapter", async () => {
  const emojis = await readEmojis();
  const { train, heldOut } = splitEmojis(emojis);
  const vocabulary = createVocabulary(emojis);
  const weights = await pretrainDenoiser(train, vocabulary, { steps: 2, batchSize: 4, learningRate: 1e-3 }, 1);
  const model = denoiserModel(weights, vocabulary.size);
  expect(findSites(model).filter(({ name }) => /to_(q|k|v|out\.0)$/.test(name))).toHaveLength(4 * 8);
  const task = { model, vocabulary, heldOut: heldOut.slice(0, 2), subject: () => subject };
  const drawn = drawSubject(train, 1);
  const subject = { ...drawn, heldOut: drawn.heldOut.slice(0, 1) };
  const run = { type: "KRONA", config: { a1: 2, a2: 8 }, learningRate: 1e-2, steps: 3, seed: 1 };
  const tuned = await judgeSubject(task, run);
  expect(tuned.parameters).toBe(32 * (16 + 1024));
  expect(tuned.loss).not.toBe(await denoisingLoss(model, vocabulary, subject.heldOut));
  expect(await judgeSubject(task, run)).toEqual(tuned);
  // Two steps do not open the way from captions, which begins at zero.
  const [own = 0, exchanged] = Object.values(await pretrainingFigures(task));
  expect(own).toBeGreaterThan(0);
  expect(exchanged).toBeCloseTo(own, 3);
});

/** A model that knows the one picture there is: it says (sqrt(a) sample - x0) / sqrt(1 - a). */
function oracle(pixels: Float32Array): Model {
  const g = createBuilder(21);
  const sample = g.input("sample", "float32", ["batch", 3, IMAGE_SIZE, IMAGE_SIZE]);
  const times = g.cast(g.input("timestep", "float32", ["batch"]), "int64");
  for (const name of ["input_ids", "attention_mask"]) g.input(name, "int64", ["batch", CAPTION_TOKENS]);
  const left = g.unsqueeze(g.gather(g.constant("float32", [...signal]), times), [1, 2, 3]);
  const picture = g.initializer("picture", tensorFrom("float32", [1, 3, IMAGE_SIZE, IMAGE_SIZE], pixels));
  const velocity = g.div(g.sub(g.mul(g.sqrt(left), sample), picture), g.sqrt(g.sub(1, left)));
  g.output(velocity, "out_sample");
  return toModel(g.finish({ name: "oracle" }), 21);
}

test("a model that knows the picture has no loss, and sees it behind noise", async () => {
  const emojis = await readEmojis();
  const vocabulary = createVocabulary(emojis);
  const [picture] = drawSubject(emojis, 2).heldOut;
  const { pixels, caption } = picture as { pixels: Float32Array; caption: string };
  const model = oracle(pixels);
  expect(await denoisingLoss(model, vocabulary, [{ pixels, caption }])).toBeLessThan(1e-8);
  const { noisy, seen } = await restore(model, vocabulary, { pixels, caption }, 700, 3);
  const furthest = (other: Float32Array): number => Math.max(...pixels.map((v, i) => Math.abs(v - (other[i] ?? 0))));
  expect(furthest(seen)).toBeLessThan(1e-5);
  expect(furthest(noisy)).toBeGreaterThan(1);
  // Of another picture it says the wrong one, whatever the step.
  const other = pixels.map((v) => v + 0.1);
  expect(await denoisingLoss(model, vocabulary, [{ pixels: other, caption }])).toBeCloseTo(0.01, 4);
});
