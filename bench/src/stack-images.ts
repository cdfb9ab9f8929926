import type { RuntimeTensor } from "@onnx-peft/core";

/** Images of one shape [channels, rows, columns] as a tensor [images, channels, rows, columns]. */
export function stackImages(images: readonly Float32Array[], shape: readonly number[]): RuntimeTensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const data = new Float32Array(images.length * size);
  images.forEach((image, i) => {
    data.set(image, i * size);
  });
  return { type: "float32", dims: [images.length, ...shape], data };
}
