import { differentiate } from "../autodiff/differentiate.ts";
import { rowScaledProduct } from "../gradients/integer-left.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { dequantizeInGraph } from "../quantization/dequantize-in-graph.ts";
import { int8Weights, type PlannedProduct, plannedProducts, smoothedInput } from "./apply-plan.ts";
import { productKey } from "./frozen-products.ts";
import type { Int8Plan } from "./plan.ts";

/**
 * Relative errors of one product in 8-bit arithmetic: of each row the squared error over the squared exact result, the root of
 * the mean over rows that are not zero. By rows, because one scale serves all of x: a token with enormous activations would
 * hide what it costs the others.
 */
export interface ProductError {
  readonly name: string;
  /** Of x·M on the x of the float32 model. */
  readonly forward: number;
  /** Of dY·Mᵀ on the dY of the float32 model. */
  readonly backward: number;
}

/** Name of the output that {@link addErrorOutputs} makes; four numbers for every product. */
export const ERRORS = "int8.errors";

/**
 * Adds to a float32 graph with its loss what tells how far every planned product would be off in 8 bits, each by itself on
 * exact inputs: sums over rows of the relative squared errors, and how many rows are not zero, forward and backward.
 * @returns the value with the sums [4 * products], and the keys and names of the products.
 */
export function addErrorOutputs(
  g: Builder,
  loss: Value,
  plan: Int8Plan,
): { sums: Value; products: readonly { readonly key: string; readonly name: string }[] } {
  const planned = plannedProducts(g, plan);
  const outputs = planned.map(({ product }) => g.value(product.node.outputs[0] ?? ""));
  const dYs = differentiate(g, [{ value: loss }], outputs, { unreached: "zeros" });
  const sums = planned.flatMap((item, i) => errorsOf(g, item, dYs[i] as Value));
  return {
    sums: g.concat(
      sums.map((sum) => g.unsqueeze(sum, [0])),
      0,
    ),
    products: planned.map(({ product, linear }) => ({ key: productKey(product), name: linear.name })),
  };
}

function errorsOf(g: Builder, item: PlannedProduct, dY: Value): Value[] {
  const { product, linear } = item;
  const { forward, backward } = int8Weights(g, item);
  const { packed, weight } = product;
  const x = g.toMatrix(g.value(product.input));
  const matrix = packed ? dequantizeInGraph(g, packed, x) : g.value(weight);
  const rows = g.toMatrix(dY);
  const exact = g.gemm(x, matrix, null, { transB: product.flipped });
  const exactBack = g.gemm(rows, matrix, null, { transB: !product.flipped });
  const smoothed = g.toMatrix(smoothedInput(g, product, linear, new Map()));
  const rounded = g.op("DynamicQuantizeMatMul", [smoothed, forward.weight, forward.scales], {}, contrib)[0] as Value;
  const roundedBack = rowScaledProduct(g, rows, backward.weight, backward.scales);
  const unsmoothed = linear.smoothing ? g.mul(roundedBack, g.value(`${productKey(product)}:smoothing`)) : roundedBack;
  return [...relative(g, rounded, exact), ...relative(g, unsmoothed, exactBack)];
}

/** Below this the square of a row is zero. */
const ZERO = 1e-30;

/** Sum over rows of |rounded - exact|² / |exact|², and the number of rows with |exact| > 0. */
function relative(g: Builder, rounded: Value, exact: Value): Value[] {
  const squares = (value: Value): Value => g.reduceSum(g.mul(value, value), [1], false); // [rows]
  const size = squares(exact);
  const guarded = g.add(size, ZERO);
  const sum = (value: Value): Value => g.reduceSum(value, [0], false);
  return [sum(g.div(squares(g.sub(rounded, exact)), guarded)), sum(g.div(size, guarded))];
}

const contrib = { domain: "com.microsoft" } as const;

/** Adds up the sums of all batches and uses, and takes the roots. */
export function productErrors(
  products: readonly { readonly key: string; readonly name: string }[],
  sums: readonly Float32Array[],
): Map<string, ProductError> {
  const totals = new Map<string, { name: string; parts: [number, number, number, number] }>();
  products.forEach(({ key, name }, i) => {
    const total = totals.get(key) ?? { name, parts: [0, 0, 0, 0] };
    for (const batch of sums) {
      for (let k = 0; k < 4; k++) total.parts[k] = (total.parts[k] ?? 0) + (batch[4 * i + k] ?? 0);
    }
    totals.set(key, total);
  });
  const ratio = (error: number, exact: number): number => (exact === 0 ? 0 : Math.sqrt(error / exact));
  return new Map(
    [...totals].map(
      ([
        key,
        {
          name,
          parts: [e, y, eBack, yBack],
        },
      ]) => [key, { name, forward: ratio(e, y), backward: ratio(eBack, yBack) }],
    ),
  );
}
