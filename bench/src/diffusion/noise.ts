import type { Random, RuntimeTensor } from "@onnx-peft/core";
import { stackImages } from "../stack-images.ts";
import { IMAGE_SIZE } from "./emoji.ts";

export const STEPS = 1000;

/** Share of the image's variance that is left after each step: Stable Diffusion's scaled linear schedule, 0.00085 to 0.012. */
export const signal: readonly number[] = (() => {
  const [first, last] = [Math.sqrt(0.00085), Math.sqrt(0.012)];
  let product = 1;
  return Array.from({ length: STEPS }, (_, t) => {
    product *= 1 - (first + ((last - first) * t) / (STEPS - 1)) ** 2;
    return product;
  });
})();

/** A picture with noise, and the velocity that a denoiser has to find. */
export interface NoisyPicture {
  readonly t: number;
  /** sqrt(a_t) x0 + sqrt(1 - a_t) e */
  readonly noisy: Float32Array;
  /** sqrt(a_t) e - sqrt(1 - a_t) x0 (Salimans and Ho 2022, arXiv 2202.00512), which tells of the picture at every step. */
  readonly velocity: Float32Array;
}

/** A picture with noise e that is drawn here. */
export function addNoise(pixels: Float32Array, t: number, random: Random): NoisyPicture {
  const noise = random.fillNormal(new Float32Array(pixels.length), 0, 1);
  const [keep, add] = [Math.sqrt(signal[t] as number), Math.sqrt(1 - (signal[t] as number))];
  return {
    t,
    noisy: pixels.map((x, i) => keep * x + add * (noise[i] as number)),
    velocity: pixels.map((x, i) => keep * (noise[i] as number) - add * x),
  };
}

/** A step and noise of their own: a training sample. */
export const drawNoise = (pixels: Float32Array, random: Random): NoisyPicture =>
  addNoise(pixels, random.integer(STEPS), random);

/** Pictures as a tensor [pictures, 3, size, size]. */
export const pictureTensor = (pictures: readonly Float32Array[]): RuntimeTensor =>
  stackImages(pictures, [3, IMAGE_SIZE, IMAGE_SIZE]);

/** What a denoiser reads of noisy pictures. */
export const noisyFeeds = (
  pictures: readonly Pick<NoisyPicture, "t" | "noisy">[],
): Record<"sample" | "timestep", RuntimeTensor> => ({
  sample: pictureTensor(pictures.map(({ noisy }) => noisy)),
  timestep: { type: "float32", dims: [pictures.length], data: Float32Array.from(pictures, ({ t }) => t) },
});
