import type { Random } from "@onnx-peft/core";
import { type Emoji, IMAGE_SIZE } from "./emoji.ts";

export type Colour = readonly [red: number, green: number, blue: number];

/** Backgrounds by the word for them, from 0 to 255. */
export const backgrounds: Readonly<Record<string, Colour>> = {
  ...{ red: [214, 64, 64], green: [72, 160, 84], blue: [64, 96, 208], yellow: [240, 214, 92] },
  ...{ purple: [140, 80, 170], orange: [240, 150, 64], white: [246, 246, 246], black: [28, 28, 32] },
};

/** Where an emoji stands, and before which background. */
export interface Placement {
  readonly background: string;
  /** Side of the emoji in sides of the image. */
  readonly scale: number;
  /** Pixels to the right and downwards from the middle. */
  readonly right: number;
  readonly down: number;
}

/** A placement with one of some backgrounds: 0.75 to 1 of the size, moved by at most three pixels each way. */
export function drawPlacement(random: Random, choices: readonly string[] = Object.keys(backgrounds)): Placement {
  return {
    background: choices[random.integer(choices.length)] as string,
    scale: 0.75 + 0.25 * random.uniform(),
    right: random.integer(7) - 3,
    down: random.integer(7) - 3,
  };
}

/** "cat face, red background, left": what is seen, the background, and the side that it is moved to by two pixels or more. */
export function captionOf(subject: string, { background, right, down }: Placement): string {
  const furthest = Math.abs(right) >= Math.abs(down) ? right : down;
  const sides = furthest === right ? ["left", "right"] : ["top", "bottom"];
  const side = Math.abs(furthest) < 2 ? "" : `, ${sides[furthest < 0 ? 0 : 1]}`;
  return `${subject}, ${background} background${side}`;
}

/** The picture [3, size, size] of an emoji, colours from -1 to 1: between its pixels by bilinear interpolation. */
export function renderPicture(rgba: Emoji["rgba"], { background, scale, right, down }: Placement): Float32Array {
  const ground = backgrounds[background];
  if (!ground) throw new RangeError(`Nothing is known of a background "${background}".`);
  const plane = IMAGE_SIZE * IMAGE_SIZE;
  const middle = (IMAGE_SIZE - 1) / 2;
  const pixels = new Float32Array(3 * plane);
  for (let row = 0; row < IMAGE_SIZE; row++) {
    const y = (row - down - middle) / scale + middle;
    const [top, rest] = [Math.floor(y), y - Math.floor(y)];
    for (let column = 0; column < IMAGE_SIZE; column++) {
      const x = (column - right - middle) / scale + middle;
      const [left, across] = [Math.floor(x), x - Math.floor(x)];
      let opacity = 0;
      const colour = [0, 0, 0];
      for (let corner = 0; corner < 4; corner++) {
        const [u, v] = [left + (corner & 1), top + (corner >> 1)];
        if (u < 0 || v < 0 || u >= IMAGE_SIZE || v >= IMAGE_SIZE) continue;
        const at = (v * IMAGE_SIZE + u) * 4;
        const share =
          ((rgba[at + 3] ?? 0) / 255) * (corner & 1 ? across : 1 - across) * (corner >> 1 ? rest : 1 - rest);
        opacity += share;
        for (let c = 0; c < 3; c++) colour[c] = (colour[c] ?? 0) + share * (rgba[at + c] ?? 0);
      }
      for (let c = 0; c < 3; c++) {
        const value = (colour[c] ?? 0) + (1 - opacity) * (ground[c] ?? 0);
        pixels[c * plane + row * IMAGE_SIZE + column] = value / 127.5 - 1;
      }
    }
  }
  return pixels;
}
