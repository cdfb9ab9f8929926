import type { Builder } from "../graph/builder.ts";
import { at, intAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { asMask } from "./masks.ts";
import { type RuleContext, rule } from "./rule.ts";

/** One pixel that a place reads along one axis. All values are [batch, places]. */
interface Tap {
  /** Where it lies: a whole number, perhaps outside. */
  readonly position: Value;
  /** Its share; null for all of it. */
  readonly weight: Value | null;
  /** Derivative of the share with respect to the coordinate; null for none. */
  readonly slope: Value | number | null;
}

/** A tap with its padding resolved: which pixel, and its share (0 outside with zero padding). */
interface Read {
  readonly index: Value;
  readonly weight: Value | null;
  /** Derivative of the share with respect to the place's own number. */
  readonly slope: Value | null;
}

const sizeAs = (g: Builder, size: Dim, type: Value["type"]): Value =>
  typeof size === "number" ? g.constant(type, size) : g.cast(g.squeeze(g.shapeTensor([size]), [0]), type);

/** Cubic convolution with a = -3/4: shares of the pixels at -1, 0, 1, 2 of a coordinate t in [0, 1), and derivatives. */
function cubicShares(g: Builder, t: Value): { weight: Value; slope: Value }[] {
  const a = -0.75;
  /** c0 + c1 s + c2 s^2 + c3 s^3 and its derivative by t, where s = t + shift or shift - t. */
  const part = (s: Value, sign: 1 | -1, [c0, c1, c2, c3]: readonly [number, number, number, number]) => ({
    weight: g.add(g.mul(g.add(g.mul(g.add(g.mul(s, c3), c2), s), c1), s), c0),
    slope: g.mul(g.add(g.mul(g.add(g.mul(s, 3 * c3), 2 * c2), s), c1), sign),
  });
  const far = [-4 * a, 8 * a, -5 * a, a] as const;
  const near = [1, 0, -(a + 3), a + 2] as const;
  const rest = g.sub(1, t);
  return [part(g.add(t, 1), 1, far), part(t, 1, near), part(rest, -1, near), part(g.add(rest, 1), -1, far)];
}

/** The pixels that a coordinate reads. */
function tapsOf(g: Builder, x: Value, mode: string): Tap[] {
  const one = (op: string): Value => g.op(op, [x])[0] as Value;
  if (mode === "nearest") return [{ position: one("Round"), weight: null, slope: null }];
  const floor = one("Floor");
  const t = g.sub(x, floor);
  if (mode.endsWith("cubic")) {
    return cubicShares(g, t).map(({ weight, slope }, i) => ({ position: g.add(floor, i - 1), weight, slope }));
  }
  return [
    { position: floor, weight: g.sub(1, t), slope: -1 },
    { position: g.add(floor, 1), weight: t, slope: 1 },
  ];
}

/** Reflects positions at the borders low and low + range until they lie between. */
function reflected(g: Builder, position: Value, low: number, range: Value): Value {
  const distance = g.abs(g.sub(position, low));
  const turns = g.op("Floor", [g.div(distance, g.mul(range, 2))])[0] as Value;
  const rest = g.sub(distance, g.mul(turns, g.mul(range, 2)));
  return g.add(g.sub(range, g.abs(g.sub(rest, range))), low);
}

function readsOf(c: RuleContext, coordinate: Value, size: Dim): Read[] {
  const { g, node } = c;
  const padding = stringAttribute(node, "padding_mode", "zeros");
  const aligned = intAttribute(node, "align_corners", 0) === 1;
  const n = sizeAs(g, size, coordinate.type);
  const last = g.sub(n, 1);
  // In the kernel's own order of operations, so that both round alike.
  const shifted = g.add(coordinate, 1);
  const x = aligned ? g.mul(g.div(shifted, 2), last) : g.div(g.sub(g.mul(shifted, n), 1), 2);
  const scale = g.div(aligned ? last : n, 2);
  const clip = (v: Value): Value => g.min(g.max(v, 0), last);
  return tapsOf(g, x, stringAttribute(node, "mode", "linear")).map(({ position, weight, slope }) => {
    const inside =
      padding === "reflection" ? reflected(g, position, aligned ? 0 : -0.5, aligned ? g.max(last, 1) : n) : position;
    const pixel = clip(inside);
    const mask = padding === "zeros" ? asMask(g, g.equal(pixel, position), position) : null;
    return {
      index: g.cast(pixel, "int64"),
      weight: productOf(g, [weight, mask]),
      slope: slope === null ? null : productOf(g, [g.mul(scale, slope), mask]),
    };
  });
}

/** Every combination of one read per axis. */
const combinations = (reads: readonly (readonly Read[])[]): Read[][] =>
  reads.reduce<Read[][]>((all, axis) => all.flatMap((start) => axis.map((read) => [...start, read])), [[]]);

function backward(c: RuleContext): readonly (Value | null)[] {
  const { g, needs } = c;
  const [x, grid, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
  const sizes = x.shape.slice(2);
  const rank = sizes.length;
  const flat = (v: Value): Value => g.op("Reshape", [v, g.ints([0, 0, -1])])[0] as Value;
  const [pixels, rows] = [flat(x), flat(dY)]; // [batch, channels, size], [batch, channels, places]
  const places = g.op("Reshape", [grid, g.ints([0, -1, rank])])[0] as Value;
  // The last number of a place is about the first spatial axis.
  const reads = sizes.map((size, i) => readsOf(c, g.gather(places, g.constant("int64", rank - 1 - i), 2), size));
  let dX = needs[0] ? g.filled(pixels.shape, 0, x.type, pixels) : null;
  const slopes: (Value | null)[] = sizes.map(() => null);
  for (const corner of combinations(reads)) {
    const index = corner.reduce<Value | null>(
      (sum, { index: own }, i) => (sum ? g.add(g.mul(sum, sizeAs(g, at(sizes, i), "int64")), own) : own),
      null,
    ) as Value;
    const at3 = g.expand(g.unsqueeze(index, [1]), rows.shape, rows); // [batch, channels, places]
    const weight = productOf(
      g,
      corner.map((read) => read.weight),
    );
    if (dX) {
      const share = weight ? g.mul(rows, g.unsqueeze(weight, [1])) : rows;
      dX = g.scatterElements(dX, at3, share, 2, "add");
    }
    if (!needs[1] || corner.every((read) => read.slope === null)) continue;
    const dot = g.reduceSum(g.mul(rows, g.gatherElements(pixels, at3, 2)), [1], false); // [batch, places]
    corner.forEach(({ slope }, i) => {
      if (slope === null) return;
      const others = productOf(
        g,
        corner.map((read, j) => (j === i ? null : read.weight)),
      );
      const along = g.mul(dot, others ? g.mul(others, slope) : slope);
      const sum = slopes[i];
      slopes[i] = sum ? g.add(sum, along) : along;
    });
  }
  const found = slopes.filter((s): s is Value => s !== null).reverse();
  const dGrid =
    found.length === rank
      ? g.concat(
          found.map((s) => g.unsqueeze(s, [2])),
          2,
        )
      : null;
  return [dX && g.reshapeLike(dX, x), needs[1] && dGrid ? g.reshapeLike(dGrid, grid) : null];
}

const productOf = (g: Builder, factors: readonly (Value | null)[]): Value | null =>
  factors.reduce<Value | null>((product, f) => (product && f ? g.mul(product, f) : (product ?? f)), null);

/** Sampling at given places. */
export const gridSample = {
  /**
   * Y[b, c, p] = sum over corners k of w_k(p) X[b, c, i_k(p)], where a place p = (x, y, z) in [-1, 1] reads 1 (nearest), 2
   * (linear) or 4 (cubic) pixels along every axis and padding decides about those outside:
   *   dX adds dY[b, c, p] w_k(p) at i_k(p), dp = sum over k of dw_k/dp * (sum over c of dY[b, c, p] X[b, c, i_k(p)]);
   *   nothing for nearest. Saves X for dp only, and the grid.
   */
  GridSample: rule([16, 24], backward),
};
