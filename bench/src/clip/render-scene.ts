import type { Random, RuntimeTensor } from "@onnx-peft/core";
import { stackImages } from "../stack-images.ts";
import type { Scene } from "./scene.ts";
import { shapeKinds } from "./shape-kinds.ts";

/** Pixels of a side. */
export const IMAGE_SIZE = 32;
/** Samples of a pixel's side: edges are smooth. */
const SAMPLES = 2;

/** An image of a scene, [3, size, size] with colours from -1 to 1. */
export function renderScene(scene: Scene, random: Random): Float32Array {
  const inside = shapeKinds[scene.shape];
  if (!inside) throw new RangeError(`Nothing is known of a shape "${scene.shape}".`);
  const [cos, sin] = [Math.cos(scene.angle), Math.sin(scene.angle)];
  const plane = IMAGE_SIZE * IMAGE_SIZE;
  const pixels = new Float32Array(3 * plane);
  for (let row = 0; row < IMAGE_SIZE; row++) {
    for (let column = 0; column < IMAGE_SIZE; column++) {
      const sum = [0, 0, 0];
      for (let sample = 0; sample < SAMPLES * SAMPLES; sample++) {
        const x = (column + ((sample % SAMPLES) + 0.5) / SAMPLES) / IMAGE_SIZE;
        const y = (row + (Math.floor(sample / SAMPLES) + 0.5) / SAMPLES) / IMAGE_SIZE;
        const [dx, dy] = [(x - scene.x) / scene.extent, (scene.y - y) / scene.extent];
        const isShape = inside(dx * cos + dy * sin, dy * cos - dx * sin);
        const colour = isShape ? scene.fill(x, y) : scene.ground(x, y);
        for (let channel = 0; channel < 3; channel++) sum[channel] = (sum[channel] ?? 0) + (colour[channel] ?? 0);
      }
      for (let channel = 0; channel < 3; channel++) {
        const value = (sum[channel] ?? 0) / (SAMPLES * SAMPLES) + scene.noise * random.normal();
        pixels[channel * plane + row * IMAGE_SIZE + column] = 2 * value - 1;
      }
    }
  }
  return pixels;
}

/** Images as the image tower's input. */
export const pixelFeeds = (images: readonly Float32Array[]): Record<"pixel_values", RuntimeTensor> => ({
  pixel_values: stackImages(images, [3, IMAGE_SIZE, IMAGE_SIZE]),
});
