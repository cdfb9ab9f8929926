import type { Dim, Graph, Node, Shape, Value, ValueType } from "../ir.ts";
import { toNumbers } from "../tensor.ts";
import { hasUnknownRank } from "../unknown-shape.ts";
import type { Infer, InferContext } from "./context.ts";
import { at, axisOf, fail, input, intAttribute, intsAttribute } from "./context.ts";

/** A sub-graph of the node, whose outputs must have types already: see graph/import-nodes.ts. */
function bodyOf(c: InferContext, name: string): Graph {
  const attribute = c.node.attributes[name];
  if (attribute?.type !== "graph") return fail(c, `the graph "${name}" is missing.`);
  const unknown = attribute.value.outputs.find(({ shape }) => hasUnknownRank(shape));
  if (unknown) fail(c, `output "${unknown.name}" of the graph "${name}" has no type.`);
  return attribute.value;
}

/** What two shapes agree on; sizes that differ become unknown. */
function agreed(c: InferContext, a: Shape, b: Shape): Dim[] {
  if (a.length !== b.length) fail(c, `a result may have rank ${a.length} or ${b.length}.`);
  return a.map((dim, i) => (dim === b[i] ? dim : c.fresh()));
}

const ifElse: Infer = (c) => {
  const [yes, no] = [bodyOf(c, "then_branch").outputs, bodyOf(c, "else_branch").outputs];
  if (yes.length !== no.length) fail(c, "the branches have different numbers of outputs.");
  return yes.map(({ type, shape }, i) => ({ type, shape: agreed(c, shape, at(no, i).shape) }));
};

/** How many inputs of a Scan node are state variables. */
export const stateCount = (node: Node): number => node.inputs.length - intAttribute(node, "num_scan_inputs", 0);

const scan: Infer = (c) => {
  const states = stateCount(c.node);
  const { outputs } = bodyOf(c, "body");
  const first = input(c, states);
  const length = at(first.shape, axisOf(c, intsAttribute(c.node, "scan_input_axes")?.[0] ?? 0, first.shape.length));
  const axes = intsAttribute(c.node, "scan_output_axes");
  return outputs.map(({ type, shape }, i): ValueType => {
    if (i < states) return { type, shape: input(c, i).shape };
    const axis = axisOf(c, axes?.[i - states] ?? 0, shape.length + 1);
    return { type, shape: [...shape.slice(0, axis), length, ...shape.slice(axis)] };
  });
};

/** True when the condition that a Loop's body hands out is its own input, or the constant true. */
export function alwaysContinues(body: Graph): boolean {
  let name = at(body.outputs, 0).name;
  for (;;) {
    if (name === body.inputs[1]?.name) return true;
    const tensor = body.initializers.get(name);
    if (tensor) return toNumbers(tensor)[0] === 1;
    const producer = body.nodes.find((node) => node.outputs.includes(name));
    if (producer?.op !== "Identity") return false;
    name = at(producer.inputs, 0);
  }
}

const isTrue = (c: InferContext, value: Value | null | undefined): boolean => !value || c.ints(1)?.[0] === 1;

const loop: Infer = (c) => {
  const body = bodyOf(c, "body");
  const carried = c.inputs.length - 2;
  const fixed = alwaysContinues(body) && isTrue(c, c.inputs[1]);
  const trips: Dim = (fixed && c.inputs[0] ? c.ints(0)?.[0] : undefined) ?? c.fresh();
  return body.outputs.slice(1).map(({ type, shape }, i): ValueType => {
    if (i < carried) return { type, shape: agreed(c, input(c, i + 2).shape, shape) };
    return { type, shape: [trips, ...shape] };
  });
};

/** Operators with sub-graphs. */
export const controlFlow = { If: ifElse, Loop: loop, Scan: scan } satisfies Record<string, Infer>;
