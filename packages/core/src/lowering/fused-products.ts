import type { AttributeInput } from "../graph/attributes.ts";
import { stringAttribute } from "../onnx/infer/context.ts";
import type { Node, Value } from "../onnx/ir.ts";
import { activated } from "./activation.ts";
import { type Expansion, type ExpansionContext, required } from "./expansion.ts";

/** Those of a node's attributes that the plain operator has too. */
const kept = (node: Node, names: readonly string[]): Record<string, AttributeInput> =>
  Object.fromEntries(Object.entries(node.attributes).filter(([name]) => names.includes(name)));

/** activation_alpha, activation_beta and activation_gamma, as far as they are given. */
function activationOf(c: ExpansionContext, x: Value): Value {
  const parameters: Record<string, number> = {};
  for (const name of ["alpha", "beta", "gamma"]) {
    const attribute = c.node.attributes[`activation_${name}`];
    if (attribute?.type === "float") parameters[name] = attribute.value;
  }
  return activated(c, x, stringAttribute(c.node, "activation", ""), parameters);
}

const product = (c: ExpansionContext, attributes: readonly string[]): Value =>
  c.g.op("FusedMatMul", [required(c, 0), required(c, 1)], kept(c.node, attributes), {
    domain: "com.microsoft",
  })[0] as Value;

const factorAttributes = ["transA", "transB", "transBatchA", "transBatchB", "alpha"];

/** Products of matrices with something behind them. The product is a linear layer of its own again. */
export const fusedProducts = {
  /** Y = activation(alpha * A'·B' + beta * C). */
  "com.microsoft::FusedGemm": (c) => {
    const inputs = [required(c, 0), required(c, 1), c.inputs[2] ?? null];
    const [y] = c.g.op("Gemm", inputs, kept(c.node, ["transA", "transB", "alpha", "beta"]));
    return [activationOf(c, y as Value)];
  },
  /** Y = activation(alpha * A'·B'), batch axes broadcast. */
  "com.microsoft::FusedMatMulActivation": (c) => [activationOf(c, product(c, factorAttributes))],
  /** The older name of FusedMatMul. */
  "com.microsoft::TransposeMatMul": (c) => [product(c, factorAttributes)],
  /** Y = Gelu(X·W + bias), tanh form. */
  "com.microsoft::GemmFastGelu": (c) => {
    const { g } = c;
    const bias = c.inputs[2];
    const y = g.matMul(required(c, 0), required(c, 1));
    return g.op("FastGelu", [bias ? g.add(y, bias) : y], {}, { domain: "com.microsoft" });
  },
} satisfies Record<string, Expansion>;
