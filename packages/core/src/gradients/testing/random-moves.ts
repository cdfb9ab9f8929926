import fc from "fast-check";
import type { Builder } from "../../graph/builder.ts";
import type { Value } from "../../onnx/ir.ts";
import { upTo } from "../axes.ts";
import { type Arbitrary, type RandomCase, shape, spreadValues } from "./random-cases.ts";

type Build = (g: Builder, x: Value) => Value | Value[];

/** A move of one tensor of the given shape: its description and its nodes. */
type Move = (dims: readonly number[]) => Arbitrary<readonly [string, Build]>;

const axisOf = (dims: readonly number[]): Arbitrary<number> => fc.integer({ min: -dims.length, max: dims.length - 1 });
const sizeAt = (dims: readonly number[], axis: number): number => dims.at(axis) ?? 1;

/** Steps of both signs, bounds counted from either end; always something is left. */
const slice: Move = (dims) =>
  axisOf(dims).chain((axis) => {
    const n = sizeAt(dims, axis);
    return fc
      .record({
        first: fc.nat(n - 1),
        last: fc.nat(n - 1),
        step: fc.constantFrom(1, 2, 3),
        back: fc.boolean(),
        fromEnd: fc.boolean(),
      })
      .map(({ first, last, step, back, fromEnd }) => {
        const [low, high] = [Math.min(first, last), Math.max(first, last)];
        const [start, end] = back ? [high, low - 1] : [low, high + 1];
        const begin = fromEnd ? start - n : start;
        const stop = back && end < 0 ? -n - 1 : fromEnd && end < n ? end - n : end;
        const by = back ? -step : step;
        return [
          `Slice ${begin}:${stop}:${by} of axis ${axis}`,
          (g, x) => g.slice(x, [begin], [stop], [axis], [by]),
        ] as const;
      });
  });

const gather: Move = (dims) =>
  axisOf(dims).chain((axis) => {
    const n = sizeAt(dims, axis);
    return fc
      .tuple(fc.array(fc.integer({ min: -n, max: n - 1 }), { minLength: 1, maxLength: 5 }), fc.boolean())
      .map(([indices, matrix]) => [
        `Gather [${indices}] of axis ${axis}, ${matrix ? "a matrix" : "a list"}`,
        (g, x) => g.gather(x, g.constant("int64", indices, matrix ? [1, indices.length] : [indices.length]), axis),
      ]);
  });

const transpose: Move = (dims) =>
  fc
    .shuffledSubarray(upTo(dims.length), { minLength: dims.length })
    .map((perm) => [`Transpose [${perm}]`, (g, x) => g.op("Transpose", [x], { perm })[0] as Value]);

/** Amounts that every mode takes: reflection needs fewer than the size. */
const pad: Move = (dims) =>
  fc.constantFrom("constant", "reflect", "edge").chain((mode) => {
    const amount = (n: number): Arbitrary<number> => fc.nat(mode === "reflect" ? n - 1 : 2);
    const all = [...dims, ...dims].map(amount);
    return fc
      .tuple(...all)
      .map((pads) => [`Pad ${mode} [${pads}]`, (g, x) => g.op("Pad", [x, g.ints(pads)], { mode })[0] as Value]);
  });

const tile: Move = (dims) =>
  fc
    .array(fc.integer({ min: 1, max: 3 }), { minLength: dims.length, maxLength: dims.length })
    .map((repeats) => [`Tile [${repeats}]`, (g, x) => g.op("Tile", [x, g.ints(repeats)])[0] as Value]);

const concat: Move = (dims) =>
  axisOf(dims).map((axis) => [`Concat of axis ${axis}`, (g, x) => g.concat([x, g.neg(x), g.mul(x, x)], axis)]);

const split: Move = (dims) =>
  axisOf(dims).chain((axis) =>
    fc.nat(sizeAt(dims, axis) - 1).map((first) => {
      const sizes = first === 0 ? [sizeAt(dims, axis)] : [first, sizeAt(dims, axis) - first];
      return [`Split [${sizes}] of axis ${axis}`, (g, x) => g.split(x, sizes, axis)] as const;
    }),
  );

const cumSum: Move = (dims) =>
  fc
    .tuple(axisOf(dims), fc.constantFrom(0, 1), fc.constantFrom(0, 1))
    .map(([axis, exclusive, reverse]) => [
      `CumSum of axis ${axis}, exclusive ${exclusive}, reverse ${reverse}`,
      (g, x) => g.op("CumSum", [x, g.constant("int64", axis)], { exclusive, reverse })[0] as Value,
    ]);

const topK: Move = (dims) =>
  axisOf(dims).chain((axis) =>
    fc
      .tuple(fc.integer({ min: 1, max: sizeAt(dims, axis) }), fc.constantFrom(0, 1))
      .map(([k, largest]) => [
        `TopK ${k} of axis ${axis}, largest ${largest}`,
        (g, x) => g.op("TopK", [x, g.ints([k])], { axis, largest }, { count: 2 })[0] as Value,
      ]),
  );

const expand: Move = (dims) =>
  fc
    .integer({ min: 1, max: 3 })
    .map((n) => [`Expand by ${n}`, (g, x) => g.op("Expand", [x, g.ints([n, ...dims])])[0] as Value]);

const trilu: Move = (dims) =>
  fc
    .tuple(fc.integer({ min: -3, max: 3 }), fc.constantFrom(0, 1))
    .map(([k, upper]) => [
      `Trilu ${k} upper ${upper}`,
      (g, x) =>
        g.op("Trilu", [dims.length < 2 ? g.unsqueeze(x, [0]) : x, g.constant("int64", k)], { upper })[0] as Value,
    ]);

const gatherElements: Move = (dims) =>
  axisOf(dims).chain((axis) => {
    const n = sizeAt(dims, axis);
    const total = dims.reduce((a, b) => a * b, 1);
    return fc
      .array(fc.integer({ min: -n, max: n - 1 }), { minLength: total, maxLength: total })
      .map((indices) => [
        `GatherElements [${indices}] of axis ${axis}`,
        (g, x) => g.gatherElements(x, g.constant("int64", indices, dims), axis),
      ]);
  });

const moves = [slice, gather, transpose, pad, tile, concat, split, cumSum, topK, expand, trilu, gatherElements];

/** Operators that pick, place and repeat entries. The result is squared, so that a gradient depends on its entry. */
export const selections: Arbitrary<RandomCase> = fc
  .tuple(shape(1, 4), fc.constantFrom(...moves), fc.constantFrom(16, 21))
  .chain(([dims, move, opset]) =>
    fc.tuple(move(dims), spreadValues([dims], 0.2)).map(
      ([[text, build], inputs]): RandomCase => ({
        label: `${text} of [${dims}]`,
        opset,
        inputs,
        f: (g, [x]) => [build(g, x as Value)].flat().map((y) => g.mul(y, y)),
      }),
    ),
  );
