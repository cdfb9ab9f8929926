import type { Random } from "@onnx-peft/core";
import { DIGIT_SIZE, type ImageSample } from "./digits.ts";

/** Grey value of the background. */
const EMPTY = -1;

/** An image moved by up to `most` pixels along each axis. */
export function shifted({ pixels, label }: ImageSample, most: number, random: Random): ImageSample {
  const [down, right] = [random.integer(2 * most + 1) - most, random.integer(2 * most + 1) - most];
  const moved = new Float32Array(pixels.length).fill(EMPTY);
  for (let y = Math.max(0, down); y < Math.min(DIGIT_SIZE, DIGIT_SIZE + down); y++)
    for (let x = Math.max(0, right); x < Math.min(DIGIT_SIZE, DIGIT_SIZE + right); x++)
      moved[y * DIGIT_SIZE + x] = pixels[(y - down) * DIGIT_SIZE + x - right] as number;
  return { pixels: moved, label };
}
