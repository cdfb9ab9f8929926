import { createRandom } from "@onnx-peft/core";
import sharp from "sharp";
import { expect, test } from "vitest";
import { CAPTION_TOKENS, createVocabulary, RARE_WORD } from "./captions.ts";
import { IMAGE_SIZE, readEmojis, splitEmojis } from "./emoji.ts";
import { addNoise, signal } from "./noise.ts";
import { backgrounds, captionOf, drawPlacement, renderPicture } from "./picture.ts";
import { pictureGrid } from "./picture-grid.ts";
import { drawSubject } from "./subject.ts";

const emojis = await readEmojis();
const { train, heldOut } = splitEmojis(emojis);

test("emoji have names of their own; one of ten is held out", () => {
  expect(emojis).toHaveLength(1635);
  expect(new Set(emojis.map(({ name }) => name)).size).toBe(emojis.length);
  expect(heldOut).toHaveLength(163);
  expect(new Set([...train, ...heldOut]).size).toBe(emojis.length);
  // The thumb up is yellow in the middle, and there is nothing in its corners.
  const { rgba } = emojis.find(({ name }) => name === "thumbs up sign") ?? { rgba: new Uint8Array(0) };
  const [red = 0, green = 0, blue = 0, opacity = 0] = rgba.subarray((20 * IMAGE_SIZE + 16) * 4);
  expect([red > 200, green > 120, blue < 120, opacity, rgba[3]]).toEqual([true, true, true, 255, 0]);
});

test("an emoji in the middle at its size is itself before the background, and moves with its placement", () => {
  const { rgba } = emojis[0] as { rgba: Uint8Array };
  const still = { background: "blue", scale: 1, right: 0, down: 0 };
  const [pixels, moved] = [renderPicture(rgba, still), renderPicture(rgba, { ...still, right: 3, down: -2 })];
  const blue = backgrounds["blue"] ?? [];
  for (const [row, column] of [
    [0, 0],
    [5, 16],
    [16, 16],
    [31, 20],
  ] as const)
    for (let c = 0; c < 3; c++) {
      const at = (row * IMAGE_SIZE + column) * 4;
      const share = (rgba[at + 3] ?? 0) / 255;
      const value = (rgba[at + c] ?? 0) * share + (blue[c] ?? 0) * (1 - share);
      expect(pixels[(c * IMAGE_SIZE + row) * IMAGE_SIZE + column]).toBeCloseTo(value / 127.5 - 1, 5);
    }
  expect(moved[14 * IMAGE_SIZE + 19]).toBe(pixels[16 * IMAGE_SIZE + 16]);
  expect(() => renderPicture(rgba, { ...still, background: "pink" })).toThrow('"pink"');
});

test("captions tell the background, and a side from two pixels on", () => {
  const at = (right: number, down: number) => captionOf("hook", { background: "red", scale: 1, right, down });
  expect([at(1, -1), at(-2, 1), at(3, 2), at(1, -3), at(0, 2)]).toEqual([
    "hook, red background",
    "hook, red background, left",
    "hook, red background, right",
    "hook, red background, top",
    "hook, red background, bottom",
  ]);
});

test("captions are words of the vocabulary behind a first token, padded", () => {
  const vocabulary = createVocabulary(emojis);
  const longest = Math.max(...emojis.map(({ name }) => name.split(" ").length));
  expect(longest + 4).toBeLessThanOrEqual(CAPTION_TOKENS);
  const { input_ids, attention_mask } = vocabulary.feeds(["", `a ${RARE_WORD} hook, red background`, "hook"]);
  const ids = Array.from(input_ids.data as BigInt64Array, Number);
  const lengths = [0, 1, 2].map((row) =>
    Array.from((attention_mask.data as BigInt64Array).subarray(row * CAPTION_TOKENS, (row + 1) * CAPTION_TOKENS)),
  );
  expect(lengths.map((row) => row.filter((flag) => flag === 1n).length)).toEqual([1, 6, 2]);
  expect(ids[CAPTION_TOKENS + 3]).toBe(ids[2 * CAPTION_TOKENS + 1]);
  expect(Math.max(...ids)).toBeLessThan(vocabulary.size);
  expect(() => vocabulary.feeds(["a photo"])).toThrow('no "photo"');
  expect(() => vocabulary.feeds(["a ".repeat(CAPTION_TOKENS)])).toThrow("More than 15 words");
});

test("the schedule is Stable Diffusion's, and noise leaves as much of a picture as it says", () => {
  expect(signal[0]).toBeCloseTo(1 - 0.00085, 10);
  expect(signal[999]).toBeCloseTo(0.00466, 5);
  const pixels = new Float32Array(3072).fill(0.5);
  const { noisy, velocity } = addNoise(pixels, 400, createRandom(1));
  const noise = createRandom(1).fillNormal(new Float32Array(3072), 0, 1);
  const [keep, add] = [Math.sqrt(signal[400] as number), Math.sqrt(1 - (signal[400] as number))];
  expect(noisy[7]).toBeCloseTo(keep * 0.5 + add * (noise[7] as number), 6);
  expect(keep * (noisy[7] as number) - add * (velocity[7] as number)).toBeCloseTo(0.5, 6);
  expect(add * (noisy[7] as number) + keep * (velocity[7] as number)).toBeCloseTo(noise[7] as number, 6);
});

test("a subject is in other colours, before other backgrounds where it is judged, and a function of its seed", () => {
  const subject = drawSubject(train, 3);
  expect(drawSubject(train, 3)).toEqual(subject);
  expect(drawSubject(train, 4)).not.toEqual(subject);
  expect([subject.instances.length, subject.heldOut.length]).toEqual([5, 16]);
  const groundsOf = (pictures: typeof subject.heldOut) =>
    new Set(pictures.map(({ caption }) => /(\w+) background/.exec(caption)?.[1]));
  const judged = groundsOf(subject.heldOut);
  expect([...groundsOf(subject.instances)].some((ground) => judged.has(ground))).toBe(false);
  for (const { caption } of subject.heldOut) expect(caption).toContain(`a ${RARE_WORD} ${subject.name}`);
  // The same emoji in its own colours, at the same place, is another picture.
  const placement = drawPlacement(createRandom(1));
  const known = train.find(({ name }) => name === subject.name) ?? { rgba: new Uint8Array(0) };
  const own = renderPicture(known.rgba, placement);
  const nearest = subject.heldOut.map(({ pixels }) => pixels.reduce((sum, v, i) => sum + (v - (own[i] ?? 0)) ** 2, 0));
  expect(Math.min(...nearest) / own.length).toBeGreaterThan(0.05);
});

test("a grid of pictures is a PNG file of them on white", async () => {
  const [red, dark] = [new Float32Array(3072).fill(-1).fill(1, 0, 1024), new Float32Array(3072).fill(-1)];
  const png = await pictureGrid([[red, dark], [dark]]);
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
  expect([info.width, info.height, info.channels]).toEqual([198, 198, 3]);
  const at = (x: number, y: number) => [...data.subarray((y * 198 + x) * 3, (y * 198 + x) * 3 + 3)];
  expect([at(50, 50), at(98, 50), at(150, 50), at(150, 150)]).toEqual([
    [255, 0, 0],
    [255, 255, 255],
    [0, 0, 0],
    [255, 255, 255],
  ]);
});
