import { PeftError } from "../errors.ts";
import { isStatic, quotientParts, termsOf } from "../onnx/dims.ts";
import { elementTypes } from "../onnx/element-type.ts";
import { at } from "../onnx/infer/context.ts";
import type { Dim, Shape, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { tensorAttribute } from "./attributes.ts";
import type { GraphCore } from "./core.ts";

/** Operators that move data without changing it, and the arithmetic on shapes behind them. */
export function shapeOps(core: GraphCore) {
  const one = (op: string, inputs: readonly (Value | null)[], attributes = {}): Value =>
    core.op(op, inputs, attributes)[0] as Value;
  const ints = (list: readonly number[]): Value => core.constant("int64", list);
  const runtimeDims = new Map<string, Value>();

  /** Size of one axis; Shape takes a range from opset 15. */
  const sizeOfAxis = (x: Value, axis: number): Value =>
    core.opset >= 15
      ? one("Shape", [x], { start: axis, end: axis + 1 })
      : one("Gather", [one("Shape", [x]), ints([axis])], { axis: 0 });

  /** Size behind a symbol, or a quotient of sizes (which are not negative, so that Div rounds down). */
  function atomTensor(atom: string): Value | null {
    const source = core.symbolSource(atom);
    if (source) return sizeOfAxis(source.value, source.axis);
    const [over, under] = (quotientParts(atom) ?? []).map(dimTensor);
    return over && under ? one("Div", [over, under]) : null;
  }

  /** One dimension as an int64 vector of length 1, computed from graph inputs where possible. */
  function dimTensor(dim: Dim): Value | null {
    if (typeof dim === "number") return ints([dim]);
    const known = runtimeDims.get(dim);
    if (known) return known;
    let sum: Value | null = null;
    for (const { coefficient, atoms } of termsOf(dim)) {
      let term: Value | null = atoms.length === 0 || coefficient !== 1 ? ints([coefficient]) : null;
      for (const atom of atoms) {
        const size = atomTensor(atom);
        if (!size) return null;
        term = term ? one("Mul", [term, size]) : size;
      }
      if (term) sum = sum ? one("Add", [sum, term]) : term;
    }
    if (sum) runtimeDims.set(dim, sum);
    return sum;
  }

  /** A shape as an int64 vector. `like` is read where a symbol's size is known from nowhere else. */
  function shapeTensor(shape: Shape, like?: Value): Value {
    if (isStatic(shape)) return ints(shape);
    const parts = shape.map(dimTensor);
    if (parts.every((p): p is Value => p !== null))
      return parts.length === 1 ? at(parts, 0) : one("Concat", parts, { axis: 0 });
    if (like) return one("Shape", [like]);
    throw new PeftError("UNKNOWN_SIZE", `No value gives the size of [${shape.join(", ")}] at run time.`);
  }

  /** Reshape to a shape of numbers and symbols; `like` as in shapeTensor. One unknown size costs nothing (-1). */
  function reshape(x: Value, shape: Shape, like?: Value): Value {
    if (x.shape.length === shape.length && x.shape.every((d, i) => d === shape[i])) return x;
    const open = shape.flatMap((d, i) => (typeof d === "string" ? [i] : []));
    const target =
      open.length <= 1 && !shape.includes(0)
        ? ints(shape.map((d) => (typeof d === "string" ? -1 : d)))
        : shapeTensor(shape, like);
    return one("Reshape", [x, target], shape.includes(0) ? { allowzero: 1 } : {});
  }

  const listed =
    (op: string) =>
    (x: Value, axes: readonly number[]): Value =>
      axes.length === 0 ? x : core.opset >= 13 ? one(op, [x, ints(axes)]) : one(op, [x], { axes });

  return {
    ints,
    shapeTensor,
    reshape,
    reshapeLike: (x: Value, like: Value): Value => reshape(x, like.shape, like),
    shapeOf: (x: Value): Value => one("Shape", [x]),
    /** [..., n] as a matrix [rows, n]. */
    toMatrix: (x: Value): Value =>
      x.shape.length === 2 ? x : one("Flatten", [x], { axis: Math.max(0, x.shape.length - 1) }),
    transpose: (x: Value, perm: readonly number[]): Value =>
      perm.every((p, i) => p === i) ? x : one("Transpose", [x], { perm }),
    squeeze: listed("Squeeze"),
    unsqueeze: listed("Unsqueeze"),
    concat: (list: readonly Value[], axis: number): Value =>
      list.length === 1 ? at(list, 0) : one("Concat", list, { axis }),
    /** x[starts:ends:steps] on the given axes. */
    slice: (
      x: Value,
      starts: readonly number[],
      ends: readonly number[],
      axes: readonly number[],
      steps?: readonly number[],
    ): Value => one("Slice", [x, ints(starts), ints(ends), ints(axes), ...(steps ? [ints(steps)] : [])]),
    split: (x: Value, sizes: readonly number[], axis: number): Value[] =>
      core.opset >= 13
        ? core.op("Split", [x, ints(sizes)], { axis }, { count: sizes.length })
        : core.op("Split", [x], { axis, split: sizes }, { count: sizes.length }),
    gather: (data: Value, indices: Value, axis = 0): Value => one("Gather", [data, indices], { axis }),
    gatherElements: (data: Value, indices: Value, axis: number): Value =>
      one("GatherElements", [data, indices], { axis }),
    gatherND: (data: Value, indices: Value, batchDims = 0): Value =>
      one("GatherND", [data, indices], batchDims === 0 ? {} : { batch_dims: batchDims }),
    scatterElements: (data: Value, indices: Value, updates: Value, axis: number, reduction = "none"): Value =>
      one("ScatterElements", [data, indices, updates], { axis, ...(reduction === "none" ? {} : { reduction }) }),
    scatterND: (data: Value, indices: Value, updates: Value, reduction = "none"): Value =>
      one("ScatterND", [data, indices, updates], reduction === "none" ? {} : { reduction }),
    expand: (x: Value, shape: Shape, like?: Value): Value =>
      x.shape.length === shape.length && x.shape.every((d, i) => d === shape[i])
        ? x
        : one("Expand", [x, shapeTensor(shape, like)]),
    /** A tensor filled with one number, of a shape known at run time only. */
    filled: (shape: Shape, value: number, type: Value["type"] = "float32", like?: Value): Value =>
      one("ConstantOfShape", [shapeTensor(shape, like)], { value: tensorAttribute(tensorFrom(type, [1], [value])) }),
    oneHot: (indices: Value, depth: Dim, values: readonly [number, number] = [0, 1], axis = -1): Value => {
      const size = dimTensor(depth);
      if (!size) throw new PeftError("UNKNOWN_SIZE", `No value gives the size "${depth}" at run time.`);
      // The CPU has no kernel for int32 indices beside an int64 depth.
      const wide = indices.type === "int64" ? indices : one("Cast", [indices], { to: elementTypes.int64.code });
      return one("OneHot", [wide, size, core.constant("float32", values)], { axis });
    },
  };
}
