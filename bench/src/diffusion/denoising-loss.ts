import { createRandom, encodeModel, type Model, onnxruntimeNode, streamSeed } from "@onnx-peft/core";
import type { Vocabulary } from "./captions.ts";
import { addNoise, noisyFeeds, signal } from "./noise.ts";
import type { CaptionedPicture } from "./subject.ts";

/** Ten steps from little noise to much. */
const TIMES = Array.from({ length: 10 }, (_, i) => 50 + 70 * i);
const NOISES = 4;
const BATCH = 64;

/**
 * Mean squared error of the pictures that a denoiser sees behind the noise, x0 = sqrt(a) x_t - sqrt(1 - a) v: that of the velocity times 1 - a. It
 * weighs steps by what they decide of a picture. Mean over ten steps with four noises each, the same ones at every call.
 */
export async function denoisingLoss(
  model: Model,
  vocabulary: Vocabulary,
  pictures: readonly CaptionedPicture[],
): Promise<number> {
  const cases = pictures.flatMap(({ pixels, caption }, i) =>
    TIMES.flatMap((t) =>
      Array.from({ length: NOISES }, (_, k) => ({
        caption,
        ...addNoise(pixels, t, createRandom(streamSeed("denoising loss", i, t, k))),
      })),
    ),
  );
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  let sum = 0;
  try {
    for (let from = 0; from < cases.length; from += BATCH) {
      const part = cases.slice(from, from + BATCH);
      const feeds = { ...noisyFeeds(part), ...vocabulary.feeds(part.map(({ caption }) => caption)) };
      const predicted = (await session.run(feeds))["out_sample"]?.data as Float32Array;
      part.forEach(({ velocity, t }, row) => {
        const own = predicted.subarray(row * velocity.length, (row + 1) * velocity.length);
        const error = own.reduce((total, v, i) => total + (v - (velocity[i] as number)) ** 2, 0) / velocity.length;
        sum += error * (1 - (signal[t] as number));
      });
    }
  } finally {
    await session.close();
  }
  return sum / cases.length;
}
