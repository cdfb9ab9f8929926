import type { Node, TensorData } from "./ir.ts";
import { tensorFrom } from "./tensor.ts";

/** The tensor of a Constant node. As an initialiser its contents are known where shapes are computed from them. */
export function constantOf({ op, domain, attributes }: Node): TensorData | null {
  if (op !== "Constant" || domain !== "") return null;
  const [value] = Object.values(attributes);
  switch (value?.type) {
    case "tensor":
      return value.value;
    case "int":
      return tensorFrom("int64", [], [Number(value.value)]);
    case "ints":
      return tensorFrom("int64", [value.value.length], value.value.map(Number));
    case "float":
      return tensorFrom("float32", [], [value.value]);
    case "floats":
      return tensorFrom("float32", [value.value.length], value.value);
    default:
      return null;
  }
}
