import type { FuzzRandom } from "./fuzz-random.ts";

/** Changes an input; may return the input itself when there is nothing to change. */
export type Mutation = (input: Uint8Array, random: FuzzRandom, others: readonly Uint8Array[]) => Uint8Array;

/** Inputs never grow beyond this, whatever is spliced together. */
export const largestInput = 1 << 18;

/** `input` with the bytes from `start` to `end` replaced. */
export function replaceBytes(input: Uint8Array, start: number, end: number, content: Uint8Array): Uint8Array {
  const length = start + content.length + (input.length - end);
  if (length > largestInput) return input;
  const out = new Uint8Array(length);
  out.set(input.subarray(0, start));
  out.set(content, start);
  out.set(input.subarray(end), start + content.length);
  return out;
}

/** Numbers that lengths, counts, offsets and dimensions go wrong at; as 64-bit patterns. */
export const nastyNumbers: readonly bigint[] = [
  0n,
  1n,
  2n,
  4n,
  7n,
  8n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x10000n,
  2n ** 24n,
  2n ** 30n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 32n + 1n,
  2n ** 40n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 62n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

const flipBit: Mutation = (input, random) => {
  const out = input.slice();
  const at = random.below(out.length);
  out[at] = (out[at] ?? 0) ^ (1 << random.below(8));
  return out;
};

const setByte: Mutation = (input, random) => {
  const out = input.slice();
  out[random.below(out.length)] = random.chance(0.5) ? random.below(256) : random.pick([0, 1, 0x7f, 0x80, 0xff]);
  return out;
};

/** A little-endian number of 2, 4 or 8 bytes in place: near what stands there, near the file's size, or a nasty one. */
const setNumber: Mutation = (input, random) => {
  const width = random.pick([2, 4, 8]);
  if (input.length < width) return input;
  const out = input.slice();
  const at = random.chance(0.7) ? random.below(out.length / width) * width : random.below(out.length - width + 1);
  if (at + width > out.length) return input;
  const view = new DataView(out.buffer);
  const near = BigInt(random.below(33) - 16);
  const old = width === 2 ? BigInt(view.getUint16(at, true)) : BigInt(view.getUint32(at, true));
  const value = random.pick([
    old + near,
    BigInt(out.length) + near,
    BigInt(out.length - at) + near,
    random.pick(nastyNumbers),
  ]);
  if (width === 2) view.setUint16(at, Number(BigInt.asUintN(16, value)), true);
  else if (width === 4) view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
  else view.setBigUint64(at, BigInt.asUintN(64, value), true);
  return out;
};

const truncate: Mutation = (input, random) => input.slice(0, random.below(input.length));

const part = (input: Uint8Array, random: FuzzRandom): [start: number, end: number] => {
  const start = random.below(input.length);
  const longest = random.chance(0.8) ? 32 : input.length;
  return [start, Math.min(input.length, start + 1 + random.below(longest))];
};

const remove: Mutation = (input, random) => replaceBytes(input, ...part(input, random), new Uint8Array(0));

const repeat: Mutation = (input, random) => {
  const [start, end] = part(input, random);
  const piece = input.subarray(start, end);
  const times = random.chance(0.9) ? 1 : 1 + random.below(64);
  const content = new Uint8Array(piece.length * times);
  for (let i = 0; i < times; i++) content.set(piece, i * piece.length);
  return replaceBytes(input, end, end, content);
};

const insertRandom: Mutation = (input, random) => {
  const at = random.below(input.length + 1);
  return replaceBytes(
    input,
    at,
    at,
    Uint8Array.from({ length: 1 + random.below(8) }, () => random.below(256)),
  );
};

/** A part of this or another input over a part of this one. */
const splice: Mutation = (input, random, others) => {
  const donor = random.chance(0.5) || others.length === 0 ? input : random.pick(others);
  const [from, to] = part(donor, random);
  const [start, end] = part(input, random);
  return replaceBytes(input, start, random.chance(0.5) ? start : end, donor.slice(from, to));
};

/** Damages that know nothing of the format. */
export const byteMutations: readonly Mutation[] = [
  flipBit,
  setByte,
  setNumber,
  truncate,
  remove,
  repeat,
  insertRandom,
  splice,
];
