/**
 * A tiny assembler for WebAssembly: loops over stretches of doubles, two at a time (128-bit SIMD), with a rest of single ones. Just
 * what the kernels of this folder need; opcodes are those of the core specification and its SIMD extension.
 */
export type Code = readonly number[];

/** Unsigned LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return bytes;
}

const vector = (items: readonly Code[]): Code => [...unsigned(items.length), ...items.flat()];
const section = (id: number, content: Code): Code => [id, ...unsigned(content.length), ...content];
const text = (value: string): Code => vector([...value].map((char) => [char.charCodeAt(0)]));

const types = { i32: 0x7f, f64: 0x7c, v128: 0x7b } as const;

export const get = (local: number): number[] => [0x20, ...unsigned(local)];
export const set = (local: number, value: Code): number[] => [...value, 0x21, ...unsigned(local)];
/** Adds a small constant to an i32 local. */
const advance = (local: number, by: number): Code => set(local, [...get(local), 0x41, ...signed(by), 0x6a]);

/** Signed LEB128. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7) {
    const last = (rest >> 7 === 0 && (rest & 0x40) === 0) || (rest >> 7 === -1 && (rest & 0x40) !== 0);
    bytes.push((rest & 0x7f) | (last ? 0 : 0x80));
    if (last) return bytes;
  }
}

/** Arithmetic on one double or on two: the body of a loop is written once. */
export interface Lanes {
  load(pointer: number, offset: number): Code;
  store(pointer: number, offset: number, value: Code): Code;
  add(a: Code, b: Code): Code;
  sub(a: Code, b: Code): Code;
  mul(a: Code, b: Code): Code;
  /** A parameter of type f64, in every lane. */
  factor(local: number): Code;
}

const memory = (offset: number): Code => [3, ...unsigned(offset)];

const single: Lanes = {
  load: (pointer, offset) => [...get(pointer), 0x2b, ...memory(offset)],
  store: (pointer, offset, value) => [...get(pointer), ...value, 0x39, ...memory(offset)],
  add: (a, b) => [...a, ...b, 0xa0],
  sub: (a, b) => [...a, ...b, 0xa1],
  mul: (a, b) => [...a, ...b, 0xa2],
  factor: get,
};

const double: Lanes = {
  load: (pointer, offset) => [...get(pointer), 0xfd, 0x00, ...memory(offset)],
  store: (pointer, offset, value) => [...get(pointer), ...value, 0xfd, 0x0b, ...memory(offset)],
  add: (a, b) => [...a, ...b, 0xfd, 0xf0, 0x01],
  sub: (a, b) => [...a, ...b, 0xfd, 0xf1, 0x01],
  mul: (a, b) => [...a, ...b, 0xfd, 0xf2, 0x01],
  factor: (local) => [...get(local), 0xfd, 0x14],
};

/** A function over stretches of doubles of one length. */
export interface Kernel {
  readonly name: string;
  /** Pointers come first among the parameters, then the number of doubles, then the factors. */
  readonly pointers: number;
  readonly factors: number;
  /** True for a function that sums over all elements: it returns an f64. */
  readonly sums?: boolean;
  /** Code for the element(s) at `offset` bytes from the pointers; `sum` is a local that may be added to. */
  readonly body: (lanes: Lanes, offset: number, sum: number) => Code;
}

/** Vectors in one turn of the loop, each with a sum of its own. */
const unroll = 4;

function functionCode({ pointers, factors, sums, body }: Kernel): Code {
  const count = pointers;
  const firstLocal = pointers + 1 + factors;
  const partial = (i: number): number => firstLocal + i; // v128
  const total = firstLocal + unroll; // f64
  const all = Array.from({ length: pointers }, (_, i) => i);
  const turn = (elements: number, code: Code): Code => [
    ...[0x02, 0x40, 0x03, 0x40], // block, loop
    ...get(count),
    ...[0x41, ...signed(elements), 0x48, 0x0d, 1], // leave when fewer are left
    ...code,
    ...all.flatMap((pointer) => advance(pointer, 8 * elements)),
    ...advance(count, -elements),
    ...[0x0c, 0, 0x0b, 0x0b], // again; end, end
  ];
  const vectors = Array.from({ length: unroll }, (_, i) => body(double, 16 * i, partial(i))).flat();
  const lane = (i: number, which: number): Code => [...get(partial(i)), 0xfd, 0x21, which];
  const gather = Array.from({ length: unroll }, (_, i) =>
    set(total, single.add(get(total), single.add(lane(i, 0), lane(i, 1)))),
  ).flat();
  const code = [
    ...vector([
      [unroll, types.v128],
      [1, types.f64],
    ]),
    ...turn(2 * unroll, vectors),
    ...(sums ? gather : []),
    ...turn(1, body(single, 0, total)),
    ...(sums ? get(total) : []),
    0x0b,
  ];
  return [...unsigned(code.length), ...code];
}

/** The bytes of a module with these functions, which imports its memory as "m"."m". */
export function wasmModule(kernels: readonly Kernel[]): Uint8Array<ArrayBuffer> {
  const signature = ({ pointers, factors, sums }: Kernel): Code => [
    0x60,
    ...vector([
      ...Array.from({ length: pointers + 1 }, () => [types.i32]),
      ...Array.from({ length: factors }, () => [types.f64]),
    ]),
    ...vector(sums ? [[types.f64]] : []),
  ];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, vector(kernels.map(signature))),
    ...section(2, vector([[...text("m"), ...text("m"), 0x02, 0x00, 0x01]])),
    ...section(3, vector(kernels.map((_, i) => unsigned(i)))),
    ...section(7, vector(kernels.map(({ name }, i) => [...text(name), 0x00, ...unsigned(i)]))),
    ...section(10, vector(kernels.map(functionCode))),
  ]);
}
