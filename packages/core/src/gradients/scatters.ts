import { PeftError } from "../errors.ts";
import { sizeOf } from "../onnx/dims.ts";
import { at, intAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { positiveAxis, upTo } from "./axes.ts";
import { dOutput, inputAt, outputAt } from "./helpers.ts";
import { rowNumbers, zerosLike } from "./indexing.ts";
import { asMask } from "./masks.ts";
import { type RuleContext, rule } from "./rule.ts";

/** A scatter seen as: data with updates combined in, entry by entry, at `indices` along one axis. */
interface Scatter {
  readonly data: Value;
  readonly updates: Value;
  readonly y: Value;
  readonly dY: Value;
  /** Entries of a tensor of data's shape at the updates' places. */
  pick(value: Value): Value;
  /** A tensor of updates' shape combined into one of data's shape. */
  combine(into: Value, value: Value, reduction: string): Value;
}

interface Gradients {
  readonly dData: () => Value;
  readonly dUpdates: () => Value;
}

const filled = (c: RuleContext, like: Value, value: number): Value => c.g.filled(like.shape, value, like.type, like);

/** Y is the largest (smallest) of an entry and all its updates: those equal to Y share the gradient, as in torch.scatter_reduce. */
function extreme(c: RuleContext, s: Scatter): Gradients {
  const { g } = c;
  const own = asMask(g, g.equal(s.data, s.y), s.y);
  const winners = asMask(g, g.equal(s.updates, s.pick(s.y)), s.y);
  const share = g.div(s.dY, s.combine(own, winners, "add"));
  return { dData: () => g.mul(share, own), dUpdates: () => g.mul(s.pick(share), winners) };
}

/**
 * Y is the product of an entry and its updates u: dData = dY times all updates, du = dY times the entry and the other
 * updates. With zeros replaced by ones in P, that product is P / u' where none of the others is zero.
 */
function product(c: RuleContext, s: Scatter): Gradients {
  const { g } = c;
  const ones = filled(c, s.data, 1);
  const zeros = asMask(g, g.equal(s.updates, 0), s.y);
  const others = (): Value => {
    const nonZero = g.add(s.updates, zeros);
    const rest = g.div(s.pick(s.combine(ones, nonZero, "mul")), nonZero);
    const zerosBeside = g.sub(s.pick(s.combine(zerosLike(c, s.data), zeros, "add")), zeros);
    return g.mul(rest, g.relu(g.sub(1, zerosBeside)));
  };
  return {
    dData: () => g.mul(s.dY, s.combine(ones, s.updates, "mul")),
    dUpdates: () => g.mul(s.pick(g.mul(s.dY, s.data)), others()),
  };
}

/** Combines over rows instead of tuples: ONNX Runtime's ScatterND loses updates of equal indices on several threads. */
function byRows(c: RuleContext): Scatter {
  const { g } = c;
  const [data, indices, updates] = [inputAt(c, 0), inputAt(c, 1), inputAt(c, 2)];
  const depth = Number(at(indices.shape, -1));
  const rows = g.reshape(rowNumbers(c, data, indices, 0, depth), [sizeOf(indices.shape.slice(0, -1))]);
  const rest = data.shape.slice(depth);
  const flat = (x: Value): Value => g.reshape(x, [sizeOf(data.shape.slice(0, depth)), ...rest]);
  const listed = (x: Value): Value => g.reshape(x, [sizeOf(indices.shape.slice(0, -1)), ...rest]);
  const index = g.expand(
    g.unsqueeze(
      rows,
      upTo(rest.length).map((i) => i + 1),
    ),
    listed(updates).shape,
    listed(updates),
  );
  const scatter = along(c, 0, index, { data: flat(data), updates: listed(updates) });
  return { ...scatter, y: flat(outputAt(c)), dY: flat(dOutput(c)) };
}

const along = (c: RuleContext, axis: number, indices: Value, s: Pick<Scatter, "data" | "updates">): Scatter => ({
  ...s,
  y: outputAt(c),
  dY: dOutput(c),
  pick: (value) => c.g.gatherElements(value, indices, axis),
  combine: (into, value, reduction) => c.g.scatterElements(into, indices, value, axis, reduction),
});

function reduced(c: RuleContext, reduction: string, scatter: () => Scatter): (Value | null)[] {
  const kinds: Record<string, typeof extreme> = { max: extreme, min: extreme, mul: product };
  const kind = Object.hasOwn(kinds, reduction) ? kinds[reduction] : undefined;
  if (!kind) {
    throw new PeftError(
      "UNSUPPORTED_ATTRIBUTE",
      `Expected reduction "none", "add", "mul", "max" or "min" in ${c.node.op} "${c.node.name}", received "${reduction}".`,
      { hint: "Choose target modules after this node." },
    );
  }
  const { dData, dUpdates } = kind(c, scatter());
  return [
    c.needs[0] ? c.g.reshapeLike(dData(), inputAt(c, 0)) : null,
    null,
    c.needs[2] ? c.g.reshapeLike(dUpdates(), inputAt(c, 2)) : null,
  ];
}

/** Operators that place entries by index. Without a reduction, repeated indices are undefined. */
export const scatters = {
  /**
   * Y = Data with Updates written, added, multiplied in or compared with, at Indices along `axis`. Written: dUpdates = dY
   * there, dData = dY, 0 where written. Added: dData = dY. The others: {@link product}, {@link extreme}.
   */
  ScatterElements: rule([11, 24], (c) => {
    const { g, needs } = c;
    const [data, indices, updates, dY] = [inputAt(c, 0), inputAt(c, 1), inputAt(c, 2), dOutput(c)];
    const axis = positiveAxis(intAttribute(c.node, "axis", 0), data.shape.length);
    const reduction = stringAttribute(c.node, "reduction", "none");
    if (reduction !== "none" && reduction !== "add") {
      return reduced(c, reduction, () => along(c, axis, indices, { data, updates }));
    }
    const written = (): Value => g.scatterElements(dY, indices, zerosLike(c, updates), axis);
    const dData = reduction === "add" ? (): Value => dY : written;
    return [needs[0] ? dData() : null, null, needs[2] ? g.gatherElements(dY, indices, axis) : null];
  }),
  /** The same with tuples of indices, whole rows at a time. */
  ScatterND: rule([11, 24], (c) => {
    const { g, needs } = c;
    const [indices, updates, dY] = [inputAt(c, 1), inputAt(c, 2), dOutput(c)];
    const reduction = stringAttribute(c.node, "reduction", "none");
    if (reduction !== "none" && reduction !== "add") return reduced(c, reduction, () => byRows(c));
    const written = (): Value => g.scatterND(dY, indices, zerosLike(c, updates));
    const dData = reduction === "add" ? (): Value => dY : written;
    return [needs[0] ? dData() : null, null, needs[2] ? g.gatherND(dY, indices) : null];
  }),
  /** Y = off everywhere and on at the index: dValues = [sum of dY off the index, sum of dY at it]. Saves Indices. */
  OneHot: rule([11, 24], (c) => {
    const { g } = c;
    const [indices, depth, dY] = [inputAt(c, 0), inputAt(c, 1), dOutput(c)];
    const axis = intAttribute(c.node, "axis", -1);
    const [hot] = g.op("OneHot", [indices, depth, g.constant(dY.type, [0, 1])], { axis });
    const all = (x: Value): Value => g.reshape(g.reduceSum(x, upTo(dY.shape.length), false), [1]);
    const on = all(g.mul(dY, hot as Value));
    return [null, null, g.concat([g.sub(all(dY), on), on], 0)];
  }),
};
