import { addDims, floorDivide, mulDims, sizeOf, subDims } from "../dims.ts";
import { elementTypes } from "../element-type.ts";
import type { Dim } from "../ir.ts";
import type { InferContext } from "./context.ts";
import { at, intAttribute, intsAttribute } from "./context.ts";
import { shapeSlice } from "./shape.ts";

type Ints = readonly Dim[];
type Evaluate = (c: InferContext) => Ints | null;

/** Longest integer vector whose contents are followed through the graph: shapes and index lists, not data. */
const LIMIT = 64;

const zip =
  (f: (a: Dim, b: Dim) => Dim | null): Evaluate =>
  (c) => {
    const [a, b] = [c.ints(0), c.ints(1)];
    if (!a || !b || (a.length !== b.length && a.length !== 1 && b.length !== 1)) return null;
    const length = a.length === 1 ? b.length : a.length;
    const result = Array.from({ length }, (_, i) => f(at(a, a.length === 1 ? 0 : i), at(b, b.length === 1 ? 0 : i)));
    return result.every((d): d is Dim => d !== null) ? result : null;
  };

const pass: Evaluate = (c) => c.ints(0);

/** Anything but 0 is true; a symbol may be 0. */
const cast: Evaluate = (c) => {
  const list = c.ints(0);
  if (!list || intAttribute(c.node, "to", 0) !== elementTypes.bool.code) return list;
  return list.every((d) => typeof d === "number") ? list.map((d) => Number(d !== 0)) : null;
};

const divide = (a: Dim, b: Dim): Dim | null => {
  if (b === 0) return null;
  if (typeof a === "number" && typeof b === "number") return Math.trunc(a / b);
  return floorDivide(a, b);
};

const numeric =
  (f: (a: number, b: number) => number) =>
  (a: Dim, b: Dim): Dim | null =>
    typeof a === "number" && typeof b === "number" ? f(a, b) : null;

/** Equal symbols are equal sizes; a symbol against a negative number (the -1 of Reshape and Expand) is not equal. */
const equal = (a: Dim, b: Dim): Dim | null => {
  if (a === b) return 1;
  if (typeof a === "number" && typeof b === "number") return 0;
  const number = typeof a === "number" ? a : b;
  return typeof number === "number" && number < 0 ? 0 : null;
};

const gather: Evaluate = (c) => {
  const [data, indices] = [c.ints(0), c.ints(1)];
  if (!data || !indices || (c.inputs[0]?.shape.length ?? 0) !== 1) return null;
  const picked = indices.map((i) => (typeof i === "number" ? data[i < 0 ? i + data.length : i] : undefined));
  return picked.every((d): d is Dim => d !== undefined) ? picked : null;
};

const slice: Evaluate = (c) => {
  const data = c.ints(0);
  const [start, end] = [
    intsAttribute(c.node, "starts")?.[0] ?? c.ints(1)?.[0],
    intsAttribute(c.node, "ends")?.[0] ?? c.ints(2)?.[0],
  ];
  const step = c.inputs[4] ? c.ints(4)?.[0] : 1;
  if (!data || typeof start !== "number" || typeof end !== "number") return null;
  if (step === 1) return data.slice(start, end);
  return step === -1 && start === -1 && end < -data.length ? [...data].reverse() : null;
};

const where: Evaluate = (c) => {
  const [condition, yes, no] = [c.ints(0), c.ints(1), c.ints(2)];
  if (!condition || !yes || !no) return null;
  const length = Math.max(condition.length, yes.length, no.length);
  const pick = (list: Ints, i: number): Dim => at(list, list.length === 1 ? 0 : i);
  const result: Dim[] = [];
  for (let i = 0; i < length; i++) {
    const test = pick(condition, i);
    if (typeof test !== "number") return null;
    result.push(test ? pick(yes, i) : pick(no, i));
  }
  return result;
};

const range: Evaluate = (c) => {
  const [a, b, s] = [c.ints(0)?.[0], c.ints(1)?.[0], c.ints(2)?.[0]];
  if (typeof a !== "number" || typeof b !== "number" || typeof s !== "number" || s === 0) return null;
  const length = Math.max(0, Math.ceil((b - a) / s));
  return length > LIMIT ? null : Array.from({ length }, (_, i) => a + i * s);
};

const constantOfShape: Evaluate = (c) => {
  const value = c.node.attributes["value"];
  const [length] = c.ints(0) ?? [];
  if (value?.type !== "tensor" || value.value.type !== "int64" || typeof length !== "number" || length > LIMIT)
    return null;
  if (!(value.value.data instanceof Uint8Array) || (c.ints(0)?.length ?? 0) > 1) return null;
  const { buffer, byteOffset } = value.value.data;
  return Array.from({ length }, () => Number(new DataView(buffer, byteOffset).getBigInt64(0, true)));
};

const split: Evaluate = () => null;

const table: Readonly<Record<string, Evaluate>> = {
  Shape: (c) => shapeSlice(c),
  Size: (c) => (c.inputs[0] ? [sizeOf(c.inputs[0].shape)] : null),
  Add: zip(addDims),
  Sub: zip(subDims),
  Mul: zip(mulDims),
  Div: zip(divide),
  Mod: zip(numeric((a, b) => ((a % b) + b) % b)),
  Max: zip(numeric(Math.max)),
  Min: zip(numeric(Math.min)),
  Equal: zip(equal),
  Greater: zip(numeric((a, b) => Number(a > b))),
  Less: zip(numeric((a, b) => Number(a < b))),
  Neg: (c) => c.ints(0)?.map((d) => mulDims(d, -1)) ?? null,
  Not: (c) => (c.ints(0)?.every((d) => typeof d === "number") ? (c.ints(0) ?? []).map((d) => (d ? 0 : 1)) : null),
  Where: where,
  Gather: gather,
  Slice: slice,
  Split: split,
  Range: range,
  ConstantOfShape: constantOfShape,
  Identity: pass,
  Cast: cast,
  Squeeze: pass,
  Unsqueeze: pass,
  Reshape: pass,
  Concat: (c) => {
    const parts = c.inputs.map((_, i) => c.ints(i));
    return parts.every((p): p is Ints => p !== null) && intAttribute(c.node, "axis", 0) === 0 ? parts.flat() : null;
  },
  ReduceProd: (c) => {
    const list = c.ints(0);
    return list ? [sizeOf(list)] : null;
  },
};

/** Contents of a small integer or boolean result, as numbers and symbols, when they follow from shapes and constants. */
export function knownInts(c: InferContext, outputRank: number, outputSize: Dim): Ints | null {
  if (outputRank > 1 || (typeof outputSize === "number" && outputSize > LIMIT)) return null;
  const result = table[c.node.op]?.(c) ?? null;
  if (!result || (typeof outputSize === "number" && result.length !== outputSize)) return null;
  return result;
}
