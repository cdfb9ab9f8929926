import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import type { TensorData, Value } from "../onnx/ir.ts";

/** Weights by their Hugging Face names, as a checkpoint has them. */
export type Weights = ReadonlyMap<string, TensorData>;

/**
 * Adds checkpoint tensors to a graph as initialisers under their own names, each once. All missing or misshapen ones are
 * collected: call `check()` when the model is built.
 */
export function weightReader(g: Builder, weights: Weights) {
  const problems: string[] = [];
  return {
    weight(name: string, dims: readonly number[]): Value {
      if (g.has(name)) return g.value(name);
      const tensor = weights.get(name);
      if (!tensor) problems.push(`"${name}" [${dims.join(", ")}] is missing`);
      else if (tensor.dims.length !== dims.length || tensor.dims.some((d, i) => d !== dims[i])) {
        problems.push(`"${name}" is [${tensor.dims.join(", ")}], expected [${dims.join(", ")}]`);
      } else return g.initializer(name, tensor);
      return g.input(`missing:${name}`, "float32", dims);
    },
    /** @throws PeftError CHECKPOINT_MISMATCH listing every problem. */
    check(): void {
      if (problems.length > 0) {
        throw new PeftError(
          "CHECKPOINT_MISMATCH",
          `The checkpoint does not fit its config: ${problems.slice(0, 10).join("; ")}${problems.length > 10 ? `; and ${problems.length - 10} more` : ""}.`,
        );
      }
    },
  };
}

export type WeightReader = ReturnType<typeof weightReader>;
