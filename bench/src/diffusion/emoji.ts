import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { createRandom, shuffle } from "@onnx-peft/core";
import sharp from "sharp";

/** Pixels of a side. */
export const IMAGE_SIZE = 32;

/** One of Noto's emoji. */
export interface Emoji {
  /** Words in lower case. */
  readonly name: string;
  readonly category: string;
  /** [size, size, 4]: red, green, blue, opacity from 0 to 255. */
  readonly rgba: Uint8Array;
}

const folder = fileURLToPath(new URL("../../data/emoji/", import.meta.url));

/** All 1,635 images without flags, in Unicode's order; `scripts/make-emoji-sprite.mjs` made them. */
export async function readEmojis(): Promise<Emoji[]> {
  const { data, info } = await sharp(`${folder}sprite.webp`).raw().toBuffer({ resolveWithObject: true });
  const columns = info.width / IMAGE_SIZE;
  const lines = (await readFile(`${folder}names.jsonl`, "utf8")).trim().split("\n");
  return lines.map((line, i) => {
    const rgba = new Uint8Array(IMAGE_SIZE * IMAGE_SIZE * 4);
    for (let row = 0; row < IMAGE_SIZE; row++) {
      const at = ((Math.floor(i / columns) * IMAGE_SIZE + row) * info.width + (i % columns) * IMAGE_SIZE) * 4;
      rgba.set(data.subarray(at, at + IMAGE_SIZE * 4), row * IMAGE_SIZE * 4);
    }
    return { ...(JSON.parse(line) as Pick<Emoji, "name" | "category">), rgba };
  });
}

/** Images to train on, and ones whose names are new. */
export interface EmojiSplit {
  readonly train: readonly Emoji[];
  readonly heldOut: readonly Emoji[];
}

/** Nine of ten to train on: always the same ones. */
export function splitEmojis(emojis: readonly Emoji[]): EmojiSplit {
  const order = shuffle(emojis, createRandom("emoji split"));
  const count = Math.round(0.9 * order.length);
  return { train: order.slice(0, count), heldOut: order.slice(count) };
}
