import { type Kernels, plainKernels } from "./kernels.ts";
import { get, type Kernel, type Lanes, set, wasmModule } from "./wasm-module.ts";

/** Memory of one decomposition, and the loops that work on it. It is freed when nobody refers to it. */
export interface Arena {
  /** Zeros; throws a RangeError beyond the size that was asked for. */
  readonly array: (length: number) => Float64Array;
  readonly kernels: Kernels;
}

/** One rotation of rows p and q; `kept` holds p's old value. */
const rotation = (o: Lanes, at: number, kept: number): number[] => [
  ...set(kept, o.load(0, at)),
  ...o.store(0, at, o.add(o.mul(o.factor(3), get(kept)), o.mul(o.factor(4), o.load(1, at)))),
  ...o.store(1, at, o.sub(o.mul(o.factor(3), o.load(1, at)), o.mul(o.factor(4), get(kept)))),
];

/** Two rotations in a row; `kept` holds p's old value, then what is in the middle. */
const twoRotations = (o: Lanes, at: number, kept: number): number[] => [
  ...set(kept, o.load(0, at)),
  ...o.store(0, at, o.add(o.mul(o.factor(4), get(kept)), o.mul(o.factor(5), o.load(1, at)))),
  ...set(kept, o.sub(o.mul(o.factor(4), o.load(1, at)), o.mul(o.factor(5), get(kept)))),
  ...o.store(1, at, o.add(o.mul(o.factor(6), get(kept)), o.mul(o.factor(7), o.load(2, at)))),
  ...o.store(2, at, o.sub(o.mul(o.factor(6), o.load(2, at)), o.mul(o.factor(7), get(kept)))),
];

const programs: readonly Kernel[] = [
  {
    name: "dot",
    pointers: 2,
    factors: 0,
    sums: true,
    body: (o, at, sum) => set(sum, o.add(get(sum), o.mul(o.load(0, at), o.load(1, at)))),
  },
  {
    name: "addScaled",
    pointers: 2,
    factors: 1,
    body: (o, at) => o.store(1, at, o.add(o.load(1, at), o.mul(o.factor(3), o.load(0, at)))),
  },
  {
    name: "addScaledDot",
    pointers: 3,
    factors: 1,
    sums: true,
    body: (o, at, sum) => [
      ...o.store(1, at, o.add(o.load(1, at), o.mul(o.factor(4), o.load(0, at)))),
      ...set(sum, o.add(get(sum), o.mul(o.load(1, at), o.load(2, at)))),
    ],
  },
  {
    name: "chain",
    pointers: 3,
    factors: 2,
    body: (o, at) => [
      ...o.store(1, at, o.sub(o.load(1, at), o.mul(o.factor(4), o.load(0, at)))),
      ...o.store(2, at, o.add(o.load(2, at), o.mul(o.factor(5), o.load(1, at)))),
    ],
  },
  { name: "rotate", pointers: 2, factors: 2, body: rotation },
  { name: "rotateTwice", pointers: 3, factors: 4, body: twoRotations },
];

type Loop = (...values: number[]) => number;
type Loops = Readonly<Record<"dot" | "addScaled" | "addScaledDot" | "chain" | "rotate" | "rotateTwice", Loop>>;

/** The part of the WebAssembly interface that is used; Node's own types leave it out. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Instance: new (
    module: object,
    imports: Record<string, Record<string, object>>,
  ) => { readonly exports: unknown };
}

const api = (globalThis as { readonly WebAssembly?: WebAssemblyApi }).WebAssembly;

/** Compiled once; null where the engine has no WebAssembly or no SIMD. */
let compiled: object | null | undefined;

function moduleOrNull(): object | null {
  if (compiled === undefined) {
    try {
      compiled = api ? new api.Module(wasmModule(programs)) : null;
    } catch {
      compiled = null;
    }
  }
  return compiled;
}

const pageBytes = 65_536;
/** 4 GiB are 65,536 pages, and pointers are signed in the loops. */
const mostPages = 32_767;

/** Addresses instead of array and index: every array lies in the one memory. */
function wasmKernels(loops: Loops): Kernels {
  const at = (array: Float64Array, index: number): number => array.byteOffset + 8 * index;
  return {
    dot: (x, i, y, j, count) => loops.dot(at(x, i), at(y, j), count),
    addScaled(factor, x, i, y, j, count) {
      loops.addScaled(at(x, i), at(y, j), count, factor);
    },
    addScaledDot: (factor, x, i, y, j, z, k, count) => loops.addScaledDot(at(x, i), at(y, j), at(z, k), count, factor),
    chain(a, x, i, y, j, b, z, k, count) {
      loops.chain(at(x, i), at(y, j), at(z, k), count, a, b);
    },
    rotate(data, p, q, count, c, s) {
      loops.rotate(at(data, p), at(data, q), count, c, s);
    },
    rotateTwice(data, p, q, r, count, c, s, d, t) {
      loops.rotateTwice(at(data, p), at(data, q), at(data, r), count, c, s, d, t);
    },
  };
}

/**
 * Room for `doubles` numbers in some `arrays` arrays. Where WebAssembly has SIMD the loops run there, three times as fast; elsewhere, and
 * above 2 GiB, in JavaScript. Sums are added in another order, so that results differ in the last bits.
 */
export function createArena(doubles: number, arrays: number): Arena {
  const pages = Math.ceil((8 * doubles + 16 * arrays) / pageBytes) + 1;
  const module = pages <= mostPages ? moduleOrNull() : null;
  if (!module || !api) return { array: (length) => new Float64Array(length), kernels: plainKernels };
  const memory = new api.Memory({ initial: pages });
  const instance = new api.Instance(module, { m: { m: memory } });
  let used = 0;
  return {
    array(length) {
      const array = new Float64Array(memory.buffer, used, length);
      used += Math.ceil(length / 2) * 16;
      return array;
    },
    kernels: wasmKernels(instance.exports as Loops),
  };
}
