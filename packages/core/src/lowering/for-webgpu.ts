import type { AttributeInput } from "../graph/attributes.ts";
import { at, floatAttribute, intAttribute } from "../onnx/infer/context.ts";
import type { Model, Node, Value } from "../onnx/ir.ts";
import { expandNodes } from "./expand.ts";
import { type Expansion, type ExpansionContext, required } from "./expansion.ts";

const isSet = (node: Node, name: string): boolean => intAttribute(node, name, 0) !== 0;

/** A factor of FusedMatMul as MatMul wants it. With transBatch its axes are [rows, batch ..., columns]. */
function factor(c: ExpansionContext, index: 0 | 1, side: "A" | "B"): Value {
  const x = required(c, index);
  const axes = x.shape.map((_, i) => i);
  if (axes.length < 2) return x;
  const batchFirst = isSet(c.node, `transBatch${side}`) ? [...axes.slice(1, -1), 0, at(axes, -1)] : axes;
  const [row, column] = [at(batchFirst, -2), at(batchFirst, -1)];
  const last = isSet(c.node, `trans${side}`) ? [column, row] : [row, column];
  return c.g.transpose(x, [...batchFirst.slice(0, -2), ...last]);
}

/**
 * Sin and Cos of any angle: WGSL promises 2^-11 between -pi and pi and nothing beyond, and rotary embeddings count in radians up to
 * the number of tokens. Float64, which WebGPU does not know, puts a node on the CPU.
 */
function onCpu(c: ExpansionContext): readonly Value[] | null {
  const { g, node } = c;
  const x = required(c, 0);
  if (x.type === "float64") return null;
  const [y] = g.op(node.op, [g.cast(x, "float64")]);
  return [g.cast(y as Value, x.type)];
}

/**
 * Operators that ONNX Runtime 1.30 has no WebGPU kernel for, or one that is wrong, in those it has. Without a kernel a node runs on the
 * CPU and its operands are copied there and back: 68 products of a training step took five sixths of its time.
 */
const webgpuExpansions = {
  /** alpha A'·B': no kernel. Gemm has flags for both factors, where they are matrices. */
  "com.microsoft::FusedMatMul": (c) => {
    const { g, node } = c;
    const alpha = floatAttribute(node, "alpha", 1);
    const [a, b] = [required(c, 0), required(c, 1)];
    if (a.shape.length === 2 && b.shape.length === 2 && (isSet(node, "transA") || isSet(node, "transB"))) {
      return [g.gemm(a, b, null, { transA: isSet(node, "transA"), transB: isSet(node, "transB"), alpha })];
    }
    const product = g.matMul(factor(c, 0, "A"), factor(c, 1, "B"));
    return [alpha === 1 ? product : g.mul(product, alpha)];
  },
  /**
   * Its kernel is that of LayerNormalization, which hands out the mean and then the inverse deviation; here the inverse is the
   * second output already, and the mean of X is what one gets.
   */
  SimplifiedLayerNormalization: (c) => {
    if (!c.isRead(1)) return null;
    const { g, node } = c;
    const x = required(c, 0);
    const axis = intAttribute(node, "axis", -1);
    const first = axis < 0 ? axis + x.shape.length : axis;
    const axes = x.shape.map((_, i) => i).slice(first);
    const wide = g.cast(x, "float32");
    const meanSquare = g.reduceMean(g.mul(wide, wide), axes);
    const inverse = g.reciprocal(g.sqrt(g.add(meanSquare, floatAttribute(node, "epsilon", 1e-5))));
    const [y] = g.op("SimplifiedLayerNormalization", [x, required(c, 1)], kept(node));
    return [y as Value, inverse];
  },
  /** Its kernel refuses to say where the maxima are. The CPU's does, and is asked by a type that WebGPU does not know. */
  MaxPool: (c) => {
    const { g, node } = c;
    const x = required(c, 0);
    if (!c.isRead(1) || x.type === "float64") return null;
    const [y] = g.op("MaxPool", [x], kept(node));
    const [, indices] = g.op("MaxPool", [g.cast(x, "float64")], kept(node), { count: 2 });
    return [y as Value, indices as Value];
  },
  /** X - max - log(sum(exp(X - max))): no kernel, and a language model's logits are its largest activation. */
  LogSoftmax: (c) => {
    const { g, node } = c;
    if (g.opset < 13) return null; // of all axes from `axis` on
    const x = required(c, 0);
    const axes = [intAttribute(node, "axis", -1)];
    const shifted = g.sub(x, g.reduceMax(x, axes));
    return [g.sub(shifted, g.log(g.reduceSum(g.exp(shifted), axes)))];
  },
  Sin: onCpu,
  Cos: onCpu,
} satisfies Record<string, Expansion>;

const kept = (node: Node): Record<string, AttributeInput> => ({ ...node.attributes });

/** The same function in operators that WebGPU computes, and computes right. The same object where there is nothing to do. */
export const forWebGpu = (model: Model): Model => expandNodes(model, webgpuExpansions);
