import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { type Expansion, required } from "./expansion.ts";
import { axisSize, positionsOf, reshapeTo } from "./heads.ts";

/** Places of the real tokens in [batch * tokens]: the first entries of a list that has the padding's behind them. int64 [count]. */
function placesOf(g: Builder, offsets: Value, count: Value): Value {
  const flat = reshapeTo(g, g.cast(offsets, "int64"), [-1]);
  return g.op("Slice", [flat, g.ints([0]), g.unsqueeze(count, [0]), g.ints([0])])[0] as Value;
}

/** Real tokens [count, width] at their places, zeros at padding: [batch, tokens, width]. */
export function restorePadding(g: Builder, x: Value, offsets: Value): Value {
  const [batch, tokens] = [axisSize(g, offsets, 0), axisSize(g, offsets, 1)];
  const width = axisSize(g, x, 1);
  const list = (...sizes: Value[]): Value =>
    g.concat(
      sizes.map((size) => g.unsqueeze(size, [0])),
      0,
    );
  const [zeros] = g.op("Expand", [g.constant(x.type, 0), list(g.mul(batch, tokens), width)]);
  const places = g.unsqueeze(placesOf(g, offsets, axisSize(g, x, 0)), [1]);
  const [rows] = g.op("ScatterND", [zeros as Value, places, x]);
  return g.reshape(rows as Value, [...offsets.shape, x.shape[1] ?? -1], x);
}

/** The real tokens of x [batch, tokens, width], as many as `like` [count, ...] has: [count, width]. */
export function removePadding(g: Builder, x: Value, offsets: Value, like: Value): Value {
  const rows = g.op("Flatten", [x], { axis: 2 })[0] as Value;
  return g.gather(rows, placesOf(g, offsets, axisSize(g, like, 0)));
}

/** The two ends of a model whose layers see no padding. */
export const paddingOperators = {
  /**
   * Inputs X [batch, tokens, width] and the number of real tokens of each row, which are on the left. Outputs: the real tokens [count, width];
   * their places and then those of padding [batch, tokens]; the running sum of lengths [batch + 1]; the longest length [1].
   */
  "com.microsoft::RemovePadding": (c) => {
    const { g } = c;
    const [x, counts] = [required(c, 0), required(c, 1)];
    const lengths = g.cast(counts, "int64");
    const isReal = reshapeTo(g, g.less(positionsOf(g, x, 1), g.unsqueeze(lengths, [1])), [-1]);
    const where = (test: Value): Value => reshapeTo(g, g.op("NonZero", [test])[0] as Value, [-1]);
    const real = where(isReal);
    const places = g.concat([real, where(g.not(isReal))], 0);
    const shape = g.concat(
      [axisSize(g, x, 0), axisSize(g, x, 1)].map((size) => g.unsqueeze(size, [0])),
      0,
    );
    const offsets = g.op("Reshape", [places, shape])[0] as Value;
    const [sums] = g.op("CumSum", [lengths, g.constant("int64", 0)]);
    const all = g.concat([g.ints([0]), sums as Value], 0);
    const [longest] = g.op("ReduceMax", [lengths], { keepdims: 1 });
    const rows = g.op("Flatten", [x], { axis: 2 })[0] as Value;
    return [g.gather(rows, real), ...[offsets, all, longest as Value].map((v) => g.cast(v, counts.type))];
  },
  /** Inputs: real tokens [count, width], places. */
  "com.microsoft::RestorePadding": (c) => [restorePadding(c.g, required(c, 0), required(c, 1))],
} satisfies Record<string, Expansion>;
