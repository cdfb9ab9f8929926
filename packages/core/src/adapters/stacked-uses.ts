import { constantOf } from "../onnx/constant.ts";
import { intAttribute, intsAttribute } from "../onnx/infer/context.ts";
import type { Node, Shape, TensorData } from "../onnx/ir.ts";
import { elementCount, toNumbers } from "../onnx/tensor.ts";
import { stackedNames } from "./fused-names.ts";
import type { GraphIndex } from "./graph-index.ts";
import type { Operand } from "./site.ts";
import { siteNameOf } from "./site-names.ts";
import type { FoundUse } from "./use-parts.ts";

/** Shape of a value of the graph, inferred; null when it is not known. */
export type ShapeOf = (name: string) => Shape | null;

/** A constant input: an initialiser, or what a Constant node holds. */
function constantAt(index: GraphIndex, name = ""): TensorData | null {
  const producer = index.producers.get(name);
  return index.graph.initializers.get(name) ?? (producer ? constantOf(producer) : null);
}

/** Small whole numbers of an input: axes and indices. */
function numbersOf(index: GraphIndex, name: string | undefined): number[] | null {
  const tensor = constantAt(index, name);
  const isList = tensor && ["int64", "int32"].includes(tensor.type) && elementCount(tensor.dims) <= 8;
  return isList ? toNumbers(tensor) : null;
}

const positive = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** Who reads the contents of a value; its shape may be read besides. */
const readersOf = (index: GraphIndex, name: string): readonly Node[] =>
  index.pinned.has(name) ? [] : (index.consumers.get(name) ?? []).filter(({ op }) => op !== "Shape");

const onlyReader = (index: GraphIndex, name: string): Node | null => {
  const [first, ...others] = readersOf(index, name);
  return first && others.length === 0 ? first : null;
};

/** What an axis is: one of the input's own, the parts, the features, or one of size 1. */
type Axis = number | "parts" | "features" | "one";

/** The axes behind a node that only moves them; null for any other node. */
function moved(index: GraphIndex, node: Node, axes: readonly Axis[]): Axis[] | null {
  if (node.domain !== "") return null;
  if (node.op === "Identity") return [...axes];
  if (node.op === "Transpose") {
    const perm = intsAttribute(node, "perm") ?? axes.map((_, i) => axes.length - 1 - i);
    const result = perm.flatMap((axis) => axes[axis] ?? []);
    return result.length === axes.length ? result : null;
  }
  const given = intsAttribute(node, "axes") ?? numbersOf(index, node.inputs[1]);
  if (!given) return null;
  if (node.op === "Unsqueeze") {
    const rank = axes.length + given.length;
    const fresh = new Set(given.map((axis) => positive(axis, rank)));
    const rest = [...axes];
    return Array.from({ length: rank }, (_, i) => (fresh.has(i) ? "one" : (rest.shift() ?? "one")));
  }
  if (node.op !== "Squeeze") return null;
  const dropped = new Set(given.map((axis) => positive(axis, axes.length)));
  return [...dropped].every((axis) => axes[axis] === "one") ? axes.filter((_, i) => !dropped.has(i)) : null;
}

/** The value that each part is picked as, by one Gather per part; null unless every part is picked once, in its plain shape. */
function picks(index: GraphIndex, name: string, axes: readonly Axis[], count: number): Node[] | null {
  const at = axes.indexOf("parts");
  const rest = axes.filter((axis) => axis !== "parts");
  if (rest.some((axis, i) => axis !== (i === rest.length - 1 ? "features" : i))) return null;
  const found: Node[] = [];
  for (const node of readersOf(index, name)) {
    const indices = constantAt(index, node.inputs[1]);
    const [which] = numbersOf(index, node.inputs[1]) ?? [];
    const isPick = node.op === "Gather" && node.domain === "" && indices?.dims.length === 0;
    if (!isPick || which === undefined || positive(intAttribute(node, "axis", 0), axes.length) !== at) return null;
    const part = positive(which, count);
    if (found[part]) return null;
    found[part] = node;
  }
  return found.length === count && !found.includes(undefined as never) ? found : null;
}

/** Nodes between the product and the parts: an unsqueeze, a transpose and a squeeze. */
const longestWay = 6;

/**
 * The modules behind one product whose result is folded to [..., parts, features] and picked apart: `nn.MultiheadAttention`
 * keeps query, key and value (or key and value alone, where the query is of another sequence) in one parameter `in_proj_weight`
 * and computes them so. One use per part, each with its slice of weight and bias and with the value that is picked. Only where the
 * product is no module of its own.
 */
export function stackedUses(index: GraphIndex, found: FoundUse, shapeOf: ShapeOf): FoundUse[] | null {
  const { use, kind } = found;
  const fold = kind === "linear" ? onlyReader(index, use.output) : null;
  if (fold?.op !== "Reshape" || fold.domain !== "" || fold.inputs[0] !== use.output) return null;
  const way: Node[] = [fold];
  let value = fold.outputs[0] ?? "";
  for (let next = onlyReader(index, value); next && next.op !== "Gather"; next = onlyReader(index, value)) {
    if (way.push(next) > longestWay) return null;
    value = next.outputs[0] ?? "";
  }
  const readers = readersOf(index, value);
  const count = readers.length;
  // Looked at before shapes, which take the whole graph to infer.
  if (count < 2 || count > 3 || readers.some(({ op }) => op !== "Gather")) return null;
  const [before, after] = [shapeOf(use.output), shapeOf(fold.outputs[0] ?? "")];
  const total = before?.at(-1);
  if (!before || !after || typeof total !== "number" || total % count !== 0) return null;
  const folded = [...before.slice(0, -1), count, total / count];
  if (after.length !== folded.length || after.some((dim, i) => dim !== folded[i])) return null;
  let axes: Axis[] | null = folded.map((_, i) =>
    i < before.length - 1 ? i : i < before.length ? "parts" : "features",
  );
  for (const node of way.slice(1)) axes = axes && moved(index, node, axes);
  const parts = axes && picks(index, value, axes, count);
  const own = siteNameOf(index, use.nodes, use.weight, use.bias);
  const names =
    parts &&
    stackedNames(
      index,
      parts.flatMap((node) => node.outputs),
      own,
      count,
    );
  if (!parts || !names) return null;
  const size = total / count;
  return parts.map((pick, i): FoundUse => {
    const sliced = (operand: Operand): Operand => ({ ...operand, slice: { start: i * size, size, total } });
    const [weight, bias] = [sliced(use.weight), use.bias && sliced(use.bias)];
    const nodes = [...use.nodes, ...way, pick] as const;
    const part = { nodes, input: use.input, output: pick.outputs[0] ?? "", weight, bias };
    return { ...found, ...(names[i] ? { name: names[i] } : {}), use: part as FoundUse["use"] };
  });
}
