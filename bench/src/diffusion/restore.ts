import { createRandom, encodeModel, type Model, onnxruntimeNode, type Seed } from "@onnx-peft/core";
import type { Vocabulary } from "./captions.ts";
import { addNoise, noisyFeeds, signal } from "./noise.ts";
import type { CaptionedPicture } from "./subject.ts";

/** A picture with noise, and the picture that a denoiser sees behind it in one look: sqrt(a) x_t - sqrt(1 - a) v. */
export async function restore(
  model: Model,
  vocabulary: Vocabulary,
  { pixels, caption }: CaptionedPicture,
  t: number,
  seed: Seed,
): Promise<{ readonly noisy: Float32Array; readonly seen: Float32Array }> {
  const picture = addNoise(pixels, t, createRandom(seed));
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  try {
    const { out_sample } = await session.run({ ...noisyFeeds([picture]), ...vocabulary.feeds([caption]) });
    const velocity = out_sample?.data as Float32Array;
    const [keep, add] = [Math.sqrt(signal[t] as number), Math.sqrt(1 - (signal[t] as number))];
    const { noisy } = picture;
    return { noisy, seen: noisy.map((x, i) => keep * x - add * (velocity[i] as number)) };
  } finally {
    await session.close();
  }
}
