import { createRandom, type Seed, shuffle, streamSeed } from "@onnx-peft/core";
import { RARE_WORD } from "./captions.ts";
import { type Emoji, IMAGE_SIZE } from "./emoji.ts";
import { backgrounds, captionOf, drawPlacement, renderPicture } from "./picture.ts";

/** A picture with what it shows in words. */
export interface CaptionedPicture {
  readonly pixels: Float32Array;
  readonly caption: string;
}

/** Something of its own, in a few pictures to train on and in others to judge on: other backgrounds, other places. */
export interface Subject {
  readonly name: string;
  readonly instances: readonly CaptionedPicture[];
  readonly heldOut: readonly CaptionedPicture[];
}

const INSTANCES = 5;
const HELD_OUT = 16;
const CATEGORIES = new Set(["Animals & Nature", "Food & Drink", "Objects", "Activities"]);
/** Half the width of a stripe in pixels. */
const STRIPE = 3;

type Pigment = [red: number, green: number, blue: number];

/** A colour of full saturation and a given brightness; hue from 0 to 6. */
function pigment(hue: number, brightness: number): Pigment {
  const channel = (shift: number): number => {
    const k = (shift + hue) % 6;
    return 255 * brightness * (1 - Math.max(0, Math.min(k, 4 - k, 1)));
  };
  return [channel(5), channel(3), channel(1)];
}

/** An emoji with its brightness as a mixture of two colours, and a stripe of a third: where it was transparent it stays so. */
function recolour(rgba: Uint8Array, seed: Seed): Uint8Array {
  const random = createRandom(streamSeed(seed, "colours"));
  const hue = 6 * random.uniform();
  const [dark, light, stripe] = [
    pigment(hue, 0.35),
    pigment((hue + 1 + random.uniform()) % 6, 1),
    pigment((hue + 3) % 6, 1),
  ];
  const angle = Math.PI * random.uniform();
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const middle = (IMAGE_SIZE - 1) / 2;
  const result = Uint8Array.from(rgba);
  for (let at = 0; at < rgba.length; at += 4) {
    const [row, column] = [Math.floor(at / 4 / IMAGE_SIZE), (at / 4) % IMAGE_SIZE];
    const isStripe = Math.abs((column - middle) * cos + (row - middle) * sin) <= STRIPE;
    const [red = 0, green = 0, blue = 0] = rgba.subarray(at, at + 3);
    const luminance = (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
    for (let c = 0; c < 3; c++) {
      const mixed = (dark[c] as number) * (1 - luminance) + (light[c] as number) * luminance;
      result[at + c] = Math.round(isStripe ? (stripe[c] as number) : mixed);
    }
  }
  return result;
}

/** A subject made of an emoji that was pre-trained on, in colours that were not: "a sks cat face, red background". */
export function drawSubject(emojis: readonly Emoji[], seed: Seed): Subject {
  const random = createRandom(streamSeed(seed, "subject"));
  const known = emojis.filter(({ name, category }) => CATEGORIES.has(category) && name.split(" ").length <= 2);
  const { name, rgba } = known[random.integer(known.length)] as Emoji;
  const image = recolour(rgba, seed);
  const grounds = shuffle(Object.keys(backgrounds), random);
  const draw = (count: number, choices: readonly string[]): CaptionedPicture[] =>
    Array.from({ length: count }, () => {
      const placement = drawPlacement(random, choices);
      return { pixels: renderPicture(image, placement), caption: captionOf(`a ${RARE_WORD} ${name}`, placement) };
    });
  const half = grounds.length / 2;
  return { name, instances: draw(INSTANCES, grounds.slice(0, half)), heldOut: draw(HELD_OUT, grounds.slice(half)) };
}
