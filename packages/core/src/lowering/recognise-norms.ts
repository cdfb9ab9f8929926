import type { Node } from "../onnx/ir.ts";
import { type Cluster, either, isLastMean, type Matcher, replaceClusters } from "./matcher.ts";
import type { Pass } from "./pass.ts";

/** sqrt(mean(x^2) + epsilon) over the last axis. */
interface Root {
  readonly nodes: readonly Node[];
  readonly x: string;
  readonly epsilon: number;
}

function rootOf(m: Matcher, name: string): Root | null {
  const sqrt = m.made(name, "Sqrt");
  const add = m.made(sqrt?.inputs[0], "Add");
  const sum = either(add, (input) => m.scalar(input));
  const mean = m.made(sum?.other, "ReduceMean");
  const square = m.made(mean?.inputs[0], "Pow", "Mul");
  if (!sqrt || !add || !sum || !mean || !square || !isLastMean(m, mean)) return null;
  const [x = "", y = ""] = square.inputs;
  const isSquare = square.op === "Mul" ? x === y : m.scalar(y) === 2;
  return isSquare && sum.found >= 0 ? { nodes: [sqrt, add, mean, square], x, epsilon: sum.found } : null;
}

/** x / root, x * (1 / root) or x * reciprocal of the root. */
function normalised(m: Matcher, name: string): (Root & { readonly by: string }) | null {
  const div = m.made(name, "Div");
  const direct = div ? rootOf(m, div.inputs[1] ?? "") : null;
  if (div && direct) return { ...direct, nodes: [div, ...direct.nodes], by: div.inputs[0] ?? "" };
  const mul = m.made(name, "Mul");
  const found = either(mul, (input) => {
    const inverse = m.made(input, "Reciprocal", "Div");
    if (!inverse || (inverse.op === "Div" && m.scalar(inverse.inputs[0]) !== 1)) return null;
    const root = rootOf(m, inverse.inputs[inverse.op === "Div" ? 1 : 0] ?? "");
    return root ? { ...root, nodes: [inverse, ...root.nodes] } : null;
  });
  return mul && found ? { ...found.found, nodes: [mul, ...found.found.nodes], by: found.other } : null;
}

/** A vector along the last axis: the scale or the shift of a norm. */
const vector = (m: Matcher, name: string): string | null => {
  const tensor = m.constant(name);
  return tensor?.type === "float32" && tensor.dims.length === 1 && (tensor.dims[0] ?? 0) > 1 ? name : null;
};

/** Casts from float32 to float32, which exporters leave in norms; what they pass is known to be float32 by its epsilon. */
function throughCast(m: Matcher, name: string): { name: string; casts: Node[] } {
  const cast = m.made(name, "Cast");
  const to = cast?.attributes["to"];
  if (cast && to?.type === "int" && Number(to.value) === 1) return { name: cast.inputs[0] ?? "", casts: [cast] };
  return { name, casts: [] };
}

interface Scaled {
  readonly nodes: readonly Node[];
  readonly weight: string;
  readonly inner: NonNullable<ReturnType<typeof normalised>>;
}

/** weight * normalised. */
function scaledOf(m: Matcher, node: Node | null): Scaled | null {
  if (node?.op !== "Mul" || node.domain !== "") return null;
  const found = either(node, (input) => vector(m, input));
  if (!found) return null;
  const { name, casts } = throughCast(m, found.other);
  const inner = normalised(m, name);
  return inner ? { nodes: [node, ...casts, ...inner.nodes], weight: found.found, inner } : null;
}

/** The Sub that takes the mean of x from x, when `name` is its result. */
function centred(m: Matcher, name: string): { nodes: Node[]; x: string } | null {
  const sub = m.made(name, "Sub");
  const mean = m.made(sub?.inputs[1], "ReduceMean");
  const [x = ""] = sub?.inputs ?? [];
  return sub && mean && mean.inputs[0] === x && isLastMean(m, mean) ? { nodes: [sub, mean], x } : null;
}

function findNorm(m: Matcher, last: Node): Cluster | null {
  const isShift = last.op === "Add" && last.domain === "";
  const shift = isShift ? either(last, (input) => vector(m, input)) : null;
  const scaled = scaledOf(m, shift ? m.made(shift.other, "Mul") : last);
  if (!scaled || (isShift && !shift)) return null;
  const { weight, inner } = scaled;
  const nodes = [last, ...scaled.nodes];
  const cluster = { last, domain: "" };
  const attributes = {
    axis: { type: "int", value: -1 },
    epsilon: { type: "float", value: inner.epsilon },
  } as const;
  const [above, below] = [centred(m, inner.by), centred(m, inner.x)];
  if (above && below && above.x === below.x) {
    const all = new Set([...nodes, ...above.nodes, ...below.nodes]);
    const inputs = [above.x, weight, ...(shift ? [shift.found] : [])];
    return { ...cluster, nodes: all, op: "LayerNormalization", inputs, attributes };
  }
  if (shift || inner.by !== inner.x) return null;
  return {
    ...cluster,
    nodes: new Set(nodes),
    op: "SimplifiedLayerNormalization",
    inputs: [inner.x, weight],
    attributes,
  };
}

/**
 * Norms written in single operators as one: (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * weight + bias, which exporters
 * write below opset 17, is LayerNormalization; x / sqrt(mean(x^2) + epsilon) * weight is SimplifiedLayerNormalization. Over
 * the last axis, in float32, and only where nothing else reads what is inside.
 */
export const recogniseNorms: Pass = { name: "norms", run: (model) => replaceClusters(model, findNorm) };
