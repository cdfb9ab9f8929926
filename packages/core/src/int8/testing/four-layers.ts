import { createBuilder } from "../../graph/builder.ts";
import { toModel } from "../../graph/to-model.ts";
import type { Model, Value } from "../../onnx/ir.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { createRandom } from "../../random/random.ts";

export const [IN, HIDDEN] = [128, 160] as const;

/**
 * Four ways to write a layer, one after the other, with tanh between: MatMul + Add, Gemm with transB, Gemm without bias, a
 * transposed initialiser. x [batch, tokens, IN], y [batch * tokens, IN]; weights "a" to "d".
 */
export function fourLayers(): Model {
  const random = createRandom(9);
  const normal = (n: number, scale: number): Float32Array => random.fillNormal(new Float32Array(n), 0, scale);
  const g = createBuilder(17);
  const weight = (name: string, dims: [number, number]): Value =>
    g.initializer(name, tensorFrom("float32", dims, normal(dims[0] * dims[1], 0.09)));
  const bias = (name: string, size: number): Value =>
    g.initializer(name, tensorFrom("float32", [size], normal(size, 0.1)));
  const x = g.input("x", "float32", ["batch", "tokens", IN]);
  const a = g.tanh(g.add(g.matMul(x, weight("a", [IN, HIDDEN])), bias("a.bias", HIDDEN)));
  const rows = g.toMatrix(a);
  const b = g.tanh(g.gemm(rows, weight("b", [HIDDEN, HIDDEN]), bias("b.bias", HIDDEN), { transB: true }));
  const c = g.tanh(g.gemm(b, weight("c", [HIDDEN, HIDDEN]), null, {}));
  const turned = g.transpose(weight("d", [IN, HIDDEN]), [1, 0]);
  g.output(g.matMul(c, turned), "y");
  return toModel(g.finish(), 17);
}
