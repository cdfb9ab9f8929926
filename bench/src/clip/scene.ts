import type { Random } from "@onnx-peft/core";
import { shapeKinds } from "./shape-kinds.ts";

export type Colour = readonly [red: number, green: number, blue: number];

/** Colours by the word for them. */
export const colours: Readonly<Record<string, Colour>> = {
  ...{ red: [0.9, 0.15, 0.15], green: [0.15, 0.75, 0.2], blue: [0.2, 0.3, 0.95], yellow: [0.95, 0.9, 0.2] },
  ...{ purple: [0.6, 0.2, 0.8], orange: [0.95, 0.55, 0.1], cyan: [0.2, 0.85, 0.9], white: [0.95, 0.95, 0.95] },
};
export const sizes = ["small", "large"] as const;

/** One image: a shape with a fill before a background, and noise. */
export interface Scene {
  readonly shape: string;
  readonly colour: string;
  readonly size: (typeof sizes)[number];
  /** Middle and half extent, in parts of the image. */
  readonly x: number;
  readonly y: number;
  readonly extent: number;
  /** In radians. */
  readonly angle: number;
  /** Colour of the shape and of the background at a point of the image, in parts of it. */
  readonly fill: (x: number, y: number) => Colour;
  readonly ground: (x: number, y: number) => Colour;
  /** Deviation of the noise. */
  readonly noise: number;
}

const oneOf = <T>(random: Random, list: readonly T[]): T => list[random.integer(list.length)] as T;
const between = (random: Random, low: number, high: number): number => low + (high - low) * random.uniform();
const plain = (colour: Colour) => () => colour;

/** A scene as in pre-training: a shape of one colour before a dark plain. */
export function plainScene(random: Random, shape = oneOf(random, Object.keys(shapeKinds))): Scene {
  const [colour, size] = [oneOf(random, Object.keys(colours)), oneOf(random, sizes)];
  const extent = size === "small" ? between(random, 0.2, 0.27) : between(random, 0.32, 0.4);
  const shade = between(random, 0, 0.25);
  return {
    ...{ shape, colour, size, extent, noise: 0.05 },
    x: between(random, extent, 1 - extent),
    y: between(random, extent, 1 - extent),
    angle: between(random, -0.2, 0.2),
    fill: plain(colours[colour] as Colour),
    ground: plain([shade, shade, shade]),
  };
}

/** Stripes of two colours, some two to four across a shape. */
function stripes(random: Random, first: Colour, second: Colour): Scene["fill"] {
  const [angle, period, phase] = [between(random, 0, Math.PI), between(random, 0.12, 0.2), random.uniform()];
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return (x, y) => {
    const at = (x * cos + y * sin) / period + phase;
    return at - Math.floor(at) < 0.5 ? first : second;
  };
}

/** The same shapes with another texture: stripes of their colour and of one half as bright. */
export function stripedScene(random: Random, shape?: string): Scene {
  const scene = plainScene(random, shape);
  const [red, green, blue] = colours[scene.colour] as Colour;
  return { ...scene, fill: stripes(random, [red, green, blue], [red / 2, green / 2, blue / 2]) };
}
