import { float } from "../graph/attributes.ts";
import type { Value } from "../onnx/ir.ts";
import { type ExpansionContext, refuse } from "./expansion.ts";

/** Names of an activation's parameters in the order in which a fused operator lists them. */
const parametersOf: Readonly<Record<string, readonly string[]>> = {
  Relu: [],
  Sigmoid: [],
  Tanh: [],
  Softplus: [],
  Softsign: [],
  Elu: ["alpha"],
  LeakyRelu: ["alpha"],
  ThresholdedRelu: ["alpha"],
  HardSigmoid: ["alpha", "beta"],
  Selu: ["alpha", "gamma"],
};

/**
 * The activation that a fused operator names. `parameters` are by name where the file says so and in order where it gives a
 * list; those that are left out have the activation's own defaults.
 */
export function activated(
  c: ExpansionContext,
  x: Value,
  name: string,
  parameters: Readonly<Record<string, number>> | readonly number[],
): Value {
  if (name === "") return x;
  const { g } = c;
  const list = Array.isArray(parameters) ? (parameters as readonly number[]) : null;
  if (name === "Clip" && list?.length === 2) return g.min(g.max(x, list[0] ?? 0), list[1] ?? 0);
  if (name === "HardSwish" && !list?.length) return g.op("HardSwish", [x])[0] as Value;
  const names = Object.hasOwn(parametersOf, name) ? parametersOf[name] : undefined;
  if (!names) return refuse(c, `the activation "${name}" is not known`);
  const given = list
    ? Object.fromEntries(names.flatMap((key, i) => (i < list.length ? [[key, list[i] as number]] : [])))
    : parameters;
  const attributes = names.flatMap((key) => {
    const value = (given as Readonly<Record<string, number>>)[key];
    return value === undefined ? [] : [[key, float(value)] as const];
  });
  return g.op(name, [x], Object.fromEntries(attributes))[0] as Value;
}
