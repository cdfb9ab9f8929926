import { PeftError } from "../errors.ts";
import { createBuilder } from "../graph/builder.ts";
import { evaluateDim } from "../onnx/dims.ts";
import type { Value } from "../onnx/ir.ts";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import type { CheckedFunction } from "./check-gradient.ts";
import { runBuilder } from "./run-graph.ts";

/** An input by its dimensions; its entries are 0, 1, 2, ... or given. */
export interface ShapedInput {
  readonly dims: readonly number[];
  readonly type?: "float32" | "int64" | "int32" | "bool";
  readonly data?: readonly number[];
}

function tensorOf({ dims, type = "float32", data }: ShapedInput): RuntimeTensor {
  const values = data ?? Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i);
  if (type === "int64") return { type, dims, data: BigInt64Array.from(values, BigInt) };
  if (type === "int32") return { type, dims, data: Int32Array.from(values) };
  if (type === "bool") return { type, dims, data: Uint8Array.from(values, (v) => v % 2) };
  return { type, dims, data: Float32Array.from(values) };
}

/**
 * Compares inferred element types and shapes of all outputs of `f` with those that ONNX Runtime returns: with the
 * shapes given, with a symbol per axis, and with one symbol per size. Symbols that inference invented are not compared.
 * @throws PeftError SHAPE_CHECK
 */
export async function checkShapes(f: CheckedFunction, inputs: readonly ShapedInput[], opset = 21): Promise<void> {
  for (const mode of ["static", "distinct", "shared"] as const) {
    const g = createBuilder(opset);
    const sizes = new Map<string, number>();
    const feeds: Record<string, RuntimeTensor> = {};
    const values = inputs.map((given, i): Value => {
      const tensor = tensorOf(given);
      feeds[`x${i}`] = tensor;
      const shape = given.dims.map((d, axis) => {
        if (mode === "static") return d;
        const symbol = mode === "shared" ? `n${d}` : `s${i}_${axis}`;
        sizes.set(symbol, d);
        return symbol;
      });
      return g.input(`x${i}`, tensor.type, shape);
    });
    const result = f(g, values);
    const outputs = Array.isArray(result) ? result : [result];
    outputs.forEach((y, i) => {
      g.output(y, `y${i}`);
    });
    const found = await runBuilder(g, feeds);
    outputs.forEach(({ type, shape }, i) => {
      const real = found[`y${i}`];
      const fits =
        real?.type === type &&
        real.dims.length === shape.length &&
        shape.every((d, axis) => [null, real.dims[axis]].includes(evaluateDim(d, sizes)));
      if (!fits || (mode === "static" && shape.some((d) => typeof d !== "number"))) {
        throw new PeftError(
          "SHAPE_CHECK",
          `Output ${i} (${mode}): inferred ${type}[${shape}], ONNX Runtime returns ${real?.type}[${real?.dims}].`,
        );
      }
    });
  }
}
