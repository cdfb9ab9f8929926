import { type ElementType, isFloating } from "../onnx/element-type.ts";
import type { Value } from "../onnx/ir.ts";
import { GraphCore } from "./core.ts";
import { dropoutOps } from "./dropout.ts";
import { elementwiseOps } from "./ops-elementwise.ts";
import { matrixOps } from "./ops-matrix.ts";
import { reduceOps } from "./ops-reduce.ts";
import { shapeOps } from "./ops-shape.ts";
import { spatialOps } from "./ops-spatial.ts";

function afterOps(core: GraphCore, e: ReturnType<typeof elementwiseOps>, s: ReturnType<typeof shapeOps>) {
  const zeros = new Map<string, Value>();

  /**
   * A zero that is not known before `gradient` is: its first element g compared with itself, (g < g). Unlike 0 * g it is zero
   * also where g is NaN or infinite. For floating-point types it is -0, the only number whose sum with every other, zeros
   * of both signs included, is that other.
   */
  function zeroBehind(gradient: Value, type: ElementType): Value {
    const key = `${gradient.name} ${type}`;
    const known = zeros.get(key);
    if (known) return known;
    const [flat] = core.op("Reshape", [gradient, s.ints([-1])]);
    const first = s.gather(flat as Value, core.constant("int64", 0));
    const wide = e.cast(first, "float32");
    const zero = e.cast(e.less(wide, wide), type);
    const signed = isFloating(type) ? e.neg(zero) : zero;
    zeros.set(key, signed);
    return signed;
  }

  return {
    /**
     * `value`, equal to the bit, but not available before `gradient` is: value + {@link zeroBehind}. ONNX Runtime merges equal
     * nodes and runs what depends on nothing early; recomputation and dequantisation in the backward pass save memory only
     * when they are tied to the incoming gradient. Takes one pass over `value`.
     */
    after(value: Value, gradient: Value): Value {
      return e.add(value, zeroBehind(gradient, value.type));
    },
  };
}

/**
 * A graph builder with one typed function per operator; every call adds nodes and infers shapes.
 * @param opset version of the ONNX domain the graph is written in; default 21.
 * @param outer builder of the graph around a sub-graph (a branch of If, the body of Loop or Scan).
 * @example
 * const g = createBuilder();
 * const x = g.input("x", "float32", ["batch", 4]);
 * g.output(g.softmax(x), "p");
 * g.finish().nodes.map((n) => n.op); // ["Softmax", "Identity"]
 */
export function createBuilder(opset = 21, outer: GraphCore | null = null) {
  const core = new GraphCore(opset, outer);
  const elementwise = elementwiseOps(core);
  const shape = shapeOps(core);
  const reduce = reduceOps(core);
  const spatial = spatialOps(core, shape, elementwise, reduce);
  const ops = { ...elementwise, ...shape, ...matrixOps(core), ...reduce, ...spatial };
  return Object.assign(core, ops, dropoutOps(core, ops), afterOps(core, elementwise, shape));
}

export type Builder = ReturnType<typeof createBuilder>;
