import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { at } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";

/**
 * Undoes broadcasting: sums `gradient` over the axes along which `target` was repeated, so that it gets target's shape.
 * Where two symbols may or may not be the same size, the axes to sum are computed at run time.
 * @throws PeftError GRADIENT_SHAPE when the shapes do not come from broadcasting.
 */
export function sumToShape(g: Builder, gradient: Value, target: Value): Value {
  const extra = gradient.shape.length - target.shape.length;
  if (extra < 0) return mismatch(gradient, target);
  const leading = Array.from({ length: extra }, (_, i) => i);
  const repeated: number[] = [];
  let undecided = false;
  target.shape.forEach((dim, i) => {
    const own = at(gradient.shape, i + extra);
    if (own === dim) return;
    if (dim === 1) repeated.push(i + extra);
    else if (typeof dim === "number" && typeof own === "number") mismatch(gradient, target);
    else undecided = true;
  });
  if (undecided) {
    return g.opset >= 13 ? sumAtRunTime(g, gradient, target, extra) : sumByQuotients(g, gradient, target, extra);
  }
  let result = gradient;
  if (repeated.length > 0) result = g.reduceSum(result, [...leading, ...repeated], true);
  else if (extra > 0) result = g.reduceSum(result, leading, false);
  return repeated.length > 0 ? g.reshapeLike(result, target) : result;
}

/** axes = where target's size is 1 and gradient's is not; ReduceSum takes them as an input. */
function sumAtRunTime(g: Builder, gradient: Value, target: Value, extra: number): Value {
  const own = g.shapeOf(gradient);
  const wanted = g.shapeTensor(target.shape, target);
  const padded = extra > 0 ? g.concat([g.ints(Array.from({ length: extra }, () => 1)), wanted], 0) : wanted;
  const differs = g.not(g.equal(own, padded));
  const [found] = g.op("NonZero", [differs]);
  const axes = g.op("Reshape", [found as Value, g.ints([-1])])[0] as Value;
  const [summed] = g.op("ReduceSum", [gradient, axes], { keepdims: 1, noop_with_empty_axes: 1 });
  return g.op("Reshape", [summed as Value, wanted])[0] as Value;
}

/**
 * The same before opset 13, whose ReduceSum has its axes as an attribute: each axis of size n is read as [n / t, t] with
 * t the target's size, which is n or 1, and the quotients are summed.
 */
function sumByQuotients(g: Builder, gradient: Value, target: Value, extra: number): Value {
  const wanted = g.shapeTensor(target.shape, target);
  const own = g.shapeOf(gradient);
  const sizes: Value[] = [];
  const summed: number[] = [];
  gradient.shape.forEach((_, axis) => {
    const size = g.gather(own, g.ints([axis]));
    summed.push(sizes.length);
    if (axis < extra) sizes.push(size);
    else {
      const kept = g.gather(wanted, g.ints([axis - extra]));
      sizes.push(g.div(size, kept), kept);
    }
  });
  const [split] = g.op("Reshape", [gradient, g.concat(sizes, 0)]);
  return g.op("Reshape", [g.reduceSum(split as Value, summed, false), wanted])[0] as Value;
}

function mismatch(gradient: Value, target: Value): never {
  throw new PeftError(
    "GRADIENT_SHAPE",
    `Expected a gradient of shape [${target.shape.join(", ")}] for "${target.name}", received [${gradient.shape.join(", ")}] in "${gradient.name}".`,
  );
}
