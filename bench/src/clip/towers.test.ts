import { createRandom, encodeModel, findSites, onnxruntimeNode } from "@onnx-peft/core";
import { expect, test } from "vitest";
import { captionFeeds, captionOf, promptOf } from "./captions.ts";
import { drawShots, tuneTowers } from "./few-shot.ts";
import { pretrainTowers } from "./pretrain.ts";
import { pixelFeeds, renderScene } from "./render-scene.ts";
import { plainScene, stripedScene } from "./scene.ts";
import { shapeKinds } from "./shape-kinds.ts";
import { towerModel } from "./towers.ts";

const shapes = Object.keys(shapeKinds);
/** Which pixels a white shape in the middle covers. */
const covered = (shape: string): boolean[] => {
  const scene = { ...plainScene(createRandom(1), shape), noise: 0, extent: 0.4, x: 0.5, y: 0.5, angle: 0 };
  const image = renderScene({ ...scene, fill: () => [1, 1, 1] }, createRandom(1));
  return Array.from(image.subarray(0, 32 * 32), (v) => v > 0.3);
};

test("images are functions of their seed, and every shape is one of its own", () => {
  const render = (seed: number) => renderScene(stripedScene(createRandom(seed)), createRandom(seed));
  expect(render(3)).toEqual(render(3));
  expect(render(3)).not.toEqual(render(4));
  expect(new Set(shapes.map((shape) => covered(shape).join())).size).toBe(shapes.length);
  // A circle of radius 0.95 in a square with a half extent of 12.8 pixels.
  const pixels = covered("circle").filter((isShape) => isShape).length;
  expect(Math.abs(pixels / (Math.PI * (0.95 * 12.8) ** 2) - 1)).toBeLessThan(0.05);
});

test("captions are words of the vocabulary, padded", () => {
  const random = createRandom(5);
  const captions = Array.from({ length: 200 }, () => captionOf(plainScene(random), random));
  const { attention_mask } = captionFeeds(captions);
  const lengths = captions.map((caption) => caption.split(" ").length);
  expect(Number((attention_mask.data as BigInt64Array).reduce((a, b) => a + b, 0n))).toBe(
    lengths.reduce((a, b) => a + b),
  );
  expect(() => captionFeeds(["a photo of a cat"])).toThrow('no "cat"');
});

test("pre-training, scores, tuning", async () => {
  const model = towerModel(await pretrainTowers(1, 2));
  expect(findSites(model).filter(({ name }) => /_proj$|fc\d$/.test(name))).toHaveLength(36);
  const shots = drawShots(["circle", "star"], 2, plainScene, "test");
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const score = async (images: readonly Float32Array[], captions: readonly string[]) =>
    (await session.run({ ...pixelFeeds(images), ...captionFeeds(captions) }))["logits_per_image"];
  const pixels = shots.map((shot) => shot.pixels);
  const all = await score(pixels, ["a star", promptOf("circle")]);
  const one = await score(pixels.slice(3), [promptOf("circle")]);
  await session.close();
  expect(all?.dims).toEqual([4, 2]);
  expect(one?.data[0]).toBeCloseTo(Number(all?.data[7]), 4); // the others of a batch do not matter
  const run = { type: "SVF", config: {}, learningRate: 1e-3, weightDecay: 0.01, steps: 6, seed: 1 };
  const { losses, parameters } = await tuneTowers(model, ["circle", "star"], shots, run);
  expect(parameters).toBe(36 * 64);
  expect(losses.at(-1)).toBeLessThan(losses[0] as number);
});
