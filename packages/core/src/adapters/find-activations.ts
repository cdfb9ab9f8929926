import type { Model, Node } from "../onnx/ir.ts";
import { type GraphIndex, indexGraph } from "./graph-index.ts";
import type { Site } from "./site.ts";

/** The activation of a feed-forward block: what stands between its two linear modules. */
export interface ActivationSite {
  /**
   * Path of the module whose output is activated ("encoder.layer.0.intermediate.dense"); of a gated block that of its gate. Where
   * layers share a module, several have its name.
   */
  readonly name: string;
  /** The value behind the activation function, [..., width]. */
  readonly activation: string;
  /** What the second linear module reads; of a gated block the product of activation and up-projection. */
  readonly product: string;
  readonly width: number;
}

const activations = new Set([
  ...["Relu", "Gelu", "Tanh", "Elu", "Selu", "Celu", "LeakyRelu", "ThresholdedRelu", "PRelu", "HardSwish", "Swish"],
  ...["Softplus", "Softsign", "Mish", "Sigmoid"],
  ...["com.microsoft::Gelu", "com.microsoft::FastGelu", "com.microsoft::QuickGelu"],
]);
/** What may stand between a linear module and its activation, or an activation and the next module. */
const passing = new Set([
  ...["Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Transpose", "Split", "Slice"],
  ...["QuantizeLinear", "DequantizeLinear"],
]);
const longestChain = 12;

const keyOf = ({ domain, op }: Node): string => (domain === "" ? op : `${domain}::${op}`);

const isConstant = (index: GraphIndex, name: string): boolean =>
  index.graph.initializers.has(name) || index.producers.get(name)?.op === "Constant";

/** The module at the beginning of a chain of reshapes, or null. */
function moduleBehind(index: GraphIndex, byOutput: ReadonlyMap<string, Site>, value: string): Site | null {
  let name = value;
  for (let steps = 0; steps < longestChain; steps++) {
    const site = byOutput.get(name);
    if (site) return site;
    const node = index.producers.get(name);
    if (!node) return null;
    const [first = "", second = ""] = node.inputs;
    const isBias = keyOf(node) === "Add" && (isConstant(index, first) || isConstant(index, second));
    if (!isBias && !passing.has(keyOf(node))) return null;
    name = isBias && isConstant(index, first) ? second : first;
  }
  return null;
}

/** Factors of a product over nested Mul nodes, without constants. */
function factorsOf(index: GraphIndex, node: Node, depth = 0): string[] {
  return node.inputs
    .filter((name) => !isConstant(index, name))
    .flatMap((name) => {
      const inner = index.producers.get(name);
      return depth < 3 && inner && keyOf(inner) === "Mul" ? factorsOf(index, inner, depth + 1) : [name];
    });
}

const curves = new Set(["Sigmoid", "HardSigmoid", "Erf", "Tanh"]);
const arithmetic = new Set(["Add", "Sub", "Mul", "Div", "Pow", "Cast", "Identity"]);

/** True for a curve of x alone: sigmoid(x), 1 + erf(x / sqrt 2), 1 + tanh(...). */
function isGateOf(index: GraphIndex, x: string, gate: string): boolean {
  let isCurve = false;
  const pending = [gate];
  for (let steps = 0; pending.length > 0; steps++) {
    const name = pending.pop() ?? "";
    if (name === x || isConstant(index, name)) continue;
    const node = index.producers.get(name);
    if (!node || steps > 4 * longestChain) return false;
    if (curves.has(keyOf(node))) isCurve = true;
    else if (!arithmetic.has(keyOf(node))) return false;
    pending.push(...node.inputs);
  }
  return isCurve;
}

/** An activation with the value it is of; in single operators it is a product x · gate(x). */
function activated(index: GraphIndex, node: Node): { readonly of: string; readonly value: string } | null {
  const [value = ""] = node.outputs;
  if (activations.has(keyOf(node))) return { of: node.inputs[0] ?? "", value };
  if (keyOf(node) !== "Mul") return null;
  const [a, b, ...more] = factorsOf(index, node);
  if (a === undefined || b === undefined || more.length > 0) return null;
  if (isGateOf(index, a, b)) return { of: a, value };
  return isGateOf(index, b, a) ? { of: b, value } : null;
}

/** The activation that a linear module reads, directly or in a product with another module's output. */
function activationBehind(
  index: GraphIndex,
  byOutput: ReadonlyMap<string, Site>,
  input: string,
): { readonly gate: Site; readonly activation: string } | null {
  const pending = [input];
  for (let steps = 0; steps < longestChain; steps++) {
    const name = pending.shift();
    const node = index.producers.get(name ?? "");
    if (!node) continue;
    const found = activated(index, node);
    const gate = found ? moduleBehind(index, byOutput, found.of) : null;
    if (found && gate) return { gate, activation: found.value };
    if (passing.has(keyOf(node))) pending.push(node.inputs[0] ?? "");
    if (keyOf(node) === "Mul") pending.push(...node.inputs);
  }
  return null;
}

/**
 * The activations of a model's feed-forward blocks, in order: of every linear module that reads, through reshapes or a gated product,
 * an activation function of another linear module's output, and leads back to the width of that module's input. Poolers and heads do
 * not.
 * @param model in the form that adapters are injected into.
 * @example
 * findActivations(model, findSites(model))[0]?.name; // "bert.encoder.layer.0.intermediate.dense"
 */
export function findActivations(model: Model, sites: readonly Site[]): ActivationSite[] {
  const index = indexGraph(model.graph);
  const linear = sites.filter((site) => site.kind === "linear");
  const byOutput = new Map(linear.flatMap((site) => site.uses.map(({ output }) => [output, site] as const)));
  const found = linear.flatMap((site) =>
    site.uses.flatMap(({ input }): ActivationSite[] => {
      const behind = activationBehind(index, byOutput, input);
      if (!behind || behind.gate.inFeatures !== site.outFeatures) return [];
      return [{ name: behind.gate.name, activation: behind.activation, product: input, width: site.inFeatures }];
    }),
  );
  return [...new Map(found.map((site) => [site.activation, site])).values()];
}
