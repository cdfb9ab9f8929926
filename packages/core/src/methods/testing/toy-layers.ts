import { createBuilder } from "../../graph/builder.ts";
import { toModel } from "../../graph/to-model.ts";
import type { Model } from "../../onnx/ir.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import type { AdapterTensor } from "../method.ts";

export interface ToyLayer {
  /** [out, in] */
  readonly weight: AdapterTensor;
  readonly bias: ArrayLike<number>;
}

/** Linear layers "layer.<i>.dense" with tanh between them: x [rows, in] to y [rows, out]. */
export function toyModel(layers: readonly ToyLayer[]): Model {
  const g = createBuilder(17);
  let x = g.input("x", "float32", ["rows", layers[0]?.weight.dims[1] ?? 0]);
  layers.forEach(({ weight, bias }, i) => {
    const at = `layer.${i}.dense`;
    const operands = [
      g.initializer(`${at}.weight`, tensorFrom("float32", weight.dims, [...weight.data])),
      g.initializer(`${at}.bias`, tensorFrom("float32", [bias.length], Array.from(bias))),
    ];
    const input = i === 0 ? x : g.tanh(x);
    [x = input] = g.op("Gemm", [input, ...operands], { transB: 1 }, { name: `/layer.${i}/dense/Gemm` });
  });
  g.output(x, "y");
  return toModel(g.finish({ name: "toy" }), 17);
}
