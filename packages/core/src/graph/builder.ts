import type { Value } from "../onnx/ir.ts";
import { GraphCore } from "./core.ts";
import { dropoutOps } from "./dropout.ts";
import { elementwiseOps } from "./ops-elementwise.ts";
import { matrixOps } from "./ops-matrix.ts";
import { reduceOps } from "./ops-reduce.ts";
import { shapeOps } from "./ops-shape.ts";

function afterOps(core: GraphCore, e: ReturnType<typeof elementwiseOps>, s: ReturnType<typeof shapeOps>) {
  return {
    /**
     * `value`, but not available before `gradient` is: value + 0 * gradient[0]. ONNX Runtime merges equal nodes and
     * runs what depends on nothing early; recomputation and dequantisation in the backward pass save memory only when
     * they are tied to the incoming gradient. Results stay bit-identical for finite gradients.
     */
    after(value: Value, gradient: Value): Value {
      const [flat] = core.op("Reshape", [gradient, s.ints([-1])]);
      return e.add(value, e.mul(s.slice(flat as Value, [0], [1], [0]), 0));
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
  const ops = { ...elementwise, ...shape, ...matrixOps(core), ...reduceOps(core) };
  return Object.assign(core, ops, dropoutOps(core, ops), afterOps(core, elementwise, shape));
}

export type Builder = ReturnType<typeof createBuilder>;
