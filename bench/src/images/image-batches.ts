import { accuracy, encodeModel, type Feeds, type Model, onnxruntimeNode, type RuntimeTensor } from "@onnx-peft/core";
import { stackImages } from "../stack-images.ts";
import { DIGIT_SIZE, type ImageSample } from "./digits.ts";

const EVALUATION_BATCH = 128;

const pixelsOf = (images: readonly ImageSample[]): Record<string, RuntimeTensor> => ({
  pixel_values: stackImages(
    images.map(({ pixels }) => pixels),
    [1, DIGIT_SIZE, DIGIT_SIZE],
  ),
});

/** What a training run is fed with. */
export const imageFeeds = (images: readonly ImageSample[]): Feeds => ({
  ...pixelsOf(images),
  labels: {
    type: "int64",
    dims: [images.length],
    data: BigInt64Array.from(images, ({ label }) => BigInt(label)),
  },
});

/** Share of the images whose class has the largest logit. */
export async function imageAccuracy(model: Model, images: readonly ImageSample[]): Promise<number> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const found: number[] = [];
  try {
    for (let at = 0; at < images.length; at += EVALUATION_BATCH) {
      const batch = images.slice(at, at + EVALUATION_BATCH);
      const { logits } = await session.run(pixelsOf(batch));
      const values = logits?.data as Float32Array;
      const classes = values.length / batch.length;
      batch.forEach((_, i) => {
        const row = values.subarray(i * classes, (i + 1) * classes);
        found.push(row.indexOf(Math.max(...row)));
      });
    }
  } finally {
    await session.close();
  }
  return accuracy(
    found,
    images.map(({ label }) => label),
  );
}
