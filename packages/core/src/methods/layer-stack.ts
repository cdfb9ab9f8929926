import type { Builder } from "../graph/builder.ts";
import { type Matrix, multiply, transpose } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { roleOf, toMatrix } from "./dense.ts";
import { kaimingUniform, uniform, zeros } from "./init.ts";
import type { AdapterTensor, ByRole, ParameterSpec } from "./method.ts";

/** Linear layers with an activation between them, as a PyTorch Sequential: its layers have even numbers. */
export interface LayerStack {
  /** Before the number of a layer in the names of its tensors. */
  readonly name: string;
  /** Width of the input and of every layer's output. */
  readonly widths: readonly number[];
  readonly activation: "tanh" | "relu";
}

const layers = ({ name, widths }: LayerStack): { from: number; to: number; weight: string; bias: string }[] =>
  widths.slice(1).map((to, i) => ({
    ...{ from: widths[i] ?? 0, to },
    ...{ weight: `${name}.${2 * i}.weight`, bias: `${name}.${2 * i}.bias` },
  }));

/** Weights [out, in] and biases, started as PyTorch starts them; `zeroEnd` makes the last layer zero. */
export function stackSpecs(stack: LayerStack, zeroEnd = false): ByRole<ParameterSpec> {
  const all = layers(stack);
  return Object.fromEntries(
    all.flatMap(({ from, to, weight, bias }, i) => {
      const isZero = zeroEnd && i === all.length - 1;
      const init = isZero ? zeros : kaimingUniform(Math.sqrt(5));
      return [
        [weight, { shape: [to, from], init }],
        [bias, { shape: [to], init: isZero ? zeros : uniform(1 / Math.sqrt(from)) }],
      ];
    }),
  );
}

/** x·Wᵀ + b, activated between layers. */
export function stackForward(g: Builder, x: Value, values: ByRole<Value>, stack: LayerStack): Value {
  const all = layers(stack);
  return all.reduce((input, { weight, bias }, i) => {
    const y = g.add(g.fusedMatMul(input, roleOf(values, weight), { transB: true }), roleOf(values, bias));
    return i === all.length - 1 ? y : stack.activation === "tanh" ? g.tanh(y) : g.relu(y);
  }, x);
}

/** The same outside a graph, in double precision. */
export function stackResult(x: Matrix, tensors: ByRole<AdapterTensor>, stack: LayerStack): Matrix {
  const all = layers(stack);
  const activate = stack.activation === "tanh" ? Math.tanh : (v: number): number => Math.max(0, v);
  return all.reduce((input, { weight, bias }, i) => {
    const product = multiply(input, transpose(toMatrix(roleOf(tensors, weight))));
    const c = roleOf(tensors, bias).data;
    const sum = product.data.map((v, k) => v + (c[k % c.length] as number));
    return { ...product, data: i === all.length - 1 ? sum : sum.map(activate) };
  }, x);
}
