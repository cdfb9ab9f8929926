import { createRandom, encodeModel, type Model, onnxruntimeNode, type Seed } from "@onnx-peft/core";
import type { Vocabulary } from "./captions.ts";
import { IMAGE_SIZE } from "./emoji.ts";
import { noisyFeeds, STEPS, signal } from "./noise.ts";

/**
 * Pictures for captions, by DDIM (Song et al. 2021, arXiv 2010.02502) without noise of its own and classifier-free guidance
 * (Ho and Salimans 2022): [3, size, size] each, colours from -1 to 1.
 */
export async function generate(
  model: Model,
  vocabulary: Vocabulary,
  captions: readonly string[],
  { steps = 50, guidance = 3, seed = 0 as Seed } = {},
): Promise<Float32Array[]> {
  const random = createRandom(seed);
  const size = 3 * IMAGE_SIZE * IMAGE_SIZE;
  const pictures = captions.map(() => random.fillNormal(new Float32Array(size), 0, 1));
  const feeds = vocabulary.feeds([...captions, ...captions.map(() => "")]);
  const stride = STEPS / steps;
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  try {
    for (let step = steps - 1; step >= 0; step--) {
      const t = Math.round((step + 1) * stride) - 1;
      const [now, next] = [signal[t] as number, step === 0 ? 1 : (signal[Math.round(step * stride) - 1] as number)];
      const states = [...pictures, ...pictures].map((noisy) => ({ t, noisy, noise: noisy }));
      const predicted = (await session.run({ ...noisyFeeds(states), ...feeds }))["out_sample"]?.data as Float32Array;
      pictures.forEach((picture, row) => {
        for (let i = 0; i < size; i++) {
          const without = predicted[(row + captions.length) * size + i] as number;
          const noise = without + guidance * ((predicted[row * size + i] as number) - without);
          const clean = ((picture[i] as number) - Math.sqrt(1 - now) * noise) / Math.sqrt(now);
          picture[i] = Math.sqrt(next) * Math.max(-1, Math.min(1, clean)) + Math.sqrt(1 - next) * noise;
        }
      });
    }
  } finally {
    await session.close();
  }
  return pictures;
}
