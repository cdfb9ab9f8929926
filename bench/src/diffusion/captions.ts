import type { RuntimeTensor } from "@onnx-peft/core";
import type { Emoji } from "./emoji.ts";
import { backgrounds } from "./picture.ts";

/** Tokens of every caption, padding with them. */
export const CAPTION_TOKENS = 16;

/** A word that no caption of the pre-training has, to stand for a subject. */
export const RARE_WORD = "sks";

/** Captions as words: 0 is padding, 1 begins every caption. */
export interface Vocabulary {
  readonly size: number;
  /** Ids and mask [captions, tokens]; an empty caption is its first token alone. @throws RangeError for an unknown word */
  feeds(captions: readonly string[]): Record<"input_ids" | "attention_mask", RuntimeTensor>;
}

const wordsOf = (text: string): string[] => text.split(/[ ,]+/).filter((word) => word !== "");

/** The words of all names and captions. */
export function createVocabulary(emojis: readonly Emoji[]): Vocabulary {
  const fixed = ["a", RARE_WORD, "background", "left", "right", "top", "bottom", ...Object.keys(backgrounds)];
  const words = new Set([...fixed, ...emojis.flatMap(({ name }) => wordsOf(name))]);
  const idOf = new Map([...words].map((word, i) => [word, BigInt(i + 2)]));
  return {
    size: words.size + 2,
    feeds(captions) {
      const dims = [captions.length, CAPTION_TOKENS];
      const ids = new BigInt64Array(captions.length * CAPTION_TOKENS);
      captions.forEach((caption, row) => {
        ids[row * CAPTION_TOKENS] = 1n;
        wordsOf(caption).forEach((word, i) => {
          const id = idOf.get(word);
          if (id === undefined) throw new RangeError(`The vocabulary has no "${word}".`);
          if (i + 1 >= CAPTION_TOKENS) throw new RangeError(`More than ${CAPTION_TOKENS - 1} words: "${caption}".`);
          ids[row * CAPTION_TOKENS + i + 1] = id;
        });
      });
      const mask = ids.map((id) => (id === 0n ? 0n : 1n));
      return { input_ids: { type: "int64", dims, data: ids }, attention_mask: { type: "int64", dims, data: mask } };
    },
  };
}
