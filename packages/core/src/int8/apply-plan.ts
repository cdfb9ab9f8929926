import { indexGraph } from "../adapters/graph-index.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { type FrozenProduct, frozenProductOf, productKey } from "./frozen-products.ts";
import type { Int8Linear, Int8Plan } from "./plan.ts";
import type { Int8Matrix } from "./quantize-columns.ts";

/**
 * Lets a graph under construction compute the planned products in 8-bit integers: x·M + C becomes DynamicQuantizeMatMul over
 * x (times 1 / s where it is smoothed), in place and under the same names, and the transposed weight is registered for the
 * gradient of x. For use after adapters and loss are in and before differentiation. What is trained, adapters, norms,
 * attention and losses stay float32. Products of other types and opsets stay as they are.
 *
 * @returns names of the plan's products that were converted, a weight with several uses once.
 */
export function applyInt8Plan(g: Builder, plan: Int8Plan): string[] {
  for (const [name, tensor] of plan.others) if (g.initializers.has(name)) g.initializers.set(name, tensor);
  const smoothed = new Map<string, Value>();
  const converted = new Set<string>();
  for (const node of g.nodes) {
    const weight = node.op === "DynamicQuantizeMatMul" ? (node.inputs[1] ?? "") : "";
    const linear = plan.linears.get(weight);
    if (!linear || linear.forward) continue;
    g.backwardWeights.set(weight, matrixIn(g, `${weight}:int8.backward`, linear.backward));
    converted.add(linear.name);
  }
  for (const { product, linear } of plannedProducts(g, plan)) {
    g.replaceNode(product.node, () => [int8Product(g, { product, linear }, smoothed)]);
    converted.add(linear.name);
  }
  return [...converted];
}

export interface PlannedProduct {
  readonly product: FrozenProduct;
  readonly linear: Int8Linear & { readonly forward: Int8Matrix };
}

/** The products of a graph under construction that a plan has 8-bit weights for, every use of a weight. */
export function plannedProducts(g: Builder, plan: Int8Plan): PlannedProduct[] {
  const index = indexGraph({
    ...{ name: "", nodes: g.nodes, inputs: g.inputs, outputs: g.outputs.map((v) => ({ ...v })) },
    ...{ initializers: g.initializers, values: new Map() },
  });
  return g.nodes.flatMap((node) => {
    const product = frozenProductOf(index, node);
    const linear = product ? plan.linears.get(productKey(product)) : undefined;
    const forward = linear?.forward;
    if (!product || !linear || !forward || g.value(product.input).type !== "float32") return [];
    return [{ product, linear: { ...linear, forward } }];
  });
}

/** The tensor as an initialiser of the graph, added once. */
function matrixIn(g: Builder, name: string, { weight, scales }: Int8Matrix): { weight: Value; scales: Value } {
  if (g.has(name)) return { weight: g.value(name), scales: g.value(`${name}.scales`) };
  return { weight: g.initializer(name, weight), scales: g.initializer(`${name}.scales`, scales) };
}

/** The plan's weights in the graph, the transposed one registered as the form for gradients. */
export function int8Weights(g: Builder, { product, linear }: PlannedProduct) {
  const key = productKey(product);
  const forward = matrixIn(g, `${key}:int8`, linear.forward);
  const backward = matrixIn(g, `${key}:int8.backward`, linear.backward);
  g.backwardWeights.set(forward.weight.name, backward);
  return { forward, backward };
}

function int8Product(g: Builder, { product, linear }: PlannedProduct, smoothed: Map<string, Value>): Value {
  const { weight, scales } = int8Weights(g, { product, linear }).forward;
  const x = smoothedInput(g, product, linear, smoothed);
  const addend = product.addend === null ? null : g.value(product.addend);
  // The kernel adds a constant row by itself; anything else (a trained bias) is added behind it.
  const row = addend && g.initializers.has(addend.name) && addend.shape.length === 1 ? addend : null;
  const inside = row?.shape[0] === product.outFeatures ? row : null;
  const y = g.op(
    "DynamicQuantizeMatMul",
    [x, weight, scales, null, inside],
    {},
    { domain: "com.microsoft" },
  )[0] as Value;
  return addend && !inside ? g.add(y, addend) : y;
}

/** x / s, made once for all uses of the weight. */
export function smoothedInput(
  g: Builder,
  product: FrozenProduct,
  linear: Int8Linear,
  known: Map<string, Value>,
): Value {
  const x = g.value(product.input);
  if (!linear.smoothing) return x;
  const name = `${productKey(product)}:smoothing`;
  const factors = g.has(name) ? g.value(name) : g.initializer(name, linear.smoothing);
  const key = `${x.name}:${name}`;
  const value = known.get(key) ?? g.mul(x, factors);
  known.set(key, value);
  return value;
}
