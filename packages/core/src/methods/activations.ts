import { z } from "zod";
import { float } from "../graph/attributes.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";

/** Names of Hugging Face's activation functions; "gelu_new" is the tanh approximation, "swish" and "silu" are x·sigmoid(x). */
export const nonLinearities = z.enum(["identity", "relu", "leakyrelu", "gelu", "gelu_new", "swish", "silu", "tanh"]);
export type NonLinearity = z.output<typeof nonLinearities>;

/** PyTorch's slope of `leaky_relu` for negative values. */
const leak = 0.01;

/** f(x) with the named function. */
export function activate(g: Builder, x: Value, name: NonLinearity): Value {
  switch (name) {
    case "identity":
      return x;
    case "relu":
      return g.relu(x);
    case "leakyrelu":
      return g.op("LeakyRelu", [x], { alpha: float(leak) })[0] as Value;
    case "gelu":
      return g.gelu(x);
    case "gelu_new":
      return g.gelu(x, "tanh");
    case "swish":
    case "silu":
      return g.mul(x, g.sigmoid(x));
    case "tanh":
      return g.tanh(x);
  }
}
