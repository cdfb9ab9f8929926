import type { Random, RuntimeTensor } from "@onnx-peft/core";
import { colours, type Scene, sizes } from "./scene.ts";
import { shapeKinds } from "./shape-kinds.ts";

/** Index 0 is padding. */
const words = ["", "a", "photo", "of", ...sizes, ...Object.keys(colours), ...Object.keys(shapeKinds)];
const idOf = new Map(words.map((word, id) => [word, BigInt(id)]));
export const VOCABULARY = words.length;
/** Tokens of every caption, padding with them. */
export const CAPTION_TOKENS = 7;

/** A caption of a scene: its shape, in some of them its colour and size. */
export function captionOf({ shape, colour, size }: Scene, random: Random): string {
  const start = random.uniform() < 0.5 ? "a" : "a photo of a";
  const known = ["", `${colour} `, `${size} `, `${size} ${colour} `];
  return `${start} ${known[random.integer(known.length)]}${shape}`;
}

/** The prompt that stands for a class. */
export const promptOf = (shape: string): string => `a photo of a ${shape}`;

/** Captions as the text tower's inputs. @throws RangeError for an unknown word */
export function captionFeeds(captions: readonly string[]): Record<"input_ids" | "attention_mask", RuntimeTensor> {
  const dims = [captions.length, CAPTION_TOKENS];
  const ids = new BigInt64Array(captions.length * CAPTION_TOKENS);
  captions.forEach((caption, row) => {
    caption.split(" ").forEach((word, i) => {
      const id = idOf.get(word);
      if (id === undefined) throw new RangeError(`The vocabulary has no "${word}".`);
      ids[row * CAPTION_TOKENS + i] = id;
    });
  });
  const mask = ids.map((id) => (id === 0n ? 0n : 1n));
  return { input_ids: { type: "int64", dims, data: ids }, attention_mask: { type: "int64", dims, data: mask } };
}
