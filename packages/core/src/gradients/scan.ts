import { PeftError } from "../errors.ts";
import { graphAttribute } from "../graph/attributes.ts";
import { inlineGraph } from "../graph/import-nodes.ts";
import { buildSubgraph } from "../graph/subgraph.ts";
import { isFloating } from "../onnx/element-type.ts";
import { at, intsAttribute } from "../onnx/infer/context.ts";
import { stateCount } from "../onnx/infer/control-flow.ts";
import type { Graph, Node, Value, ValueType } from "../onnx/ir.ts";
import { inputAt } from "./helpers.ts";
import type { RuleContext } from "./rule.ts";

const SAVED = "/saved_state";

const bodyOf = (node: Node): Graph => {
  const body = node.attributes["body"];
  if (body?.type === "graph") return body.value;
  throw new PeftError("ONNX_INVALID", `Scan "${node.name}" lacks its body.`);
};

/** The states before every step, as scan outputs [steps, ...state] that the forward Scan is given once. */
function savedStates(c: RuleContext, states: number): Value[] {
  const { node, g } = c;
  const body = bodyOf(node);
  const known = body.outputs.findIndex((v) => v.name.endsWith(SAVED));
  if (known >= 0) return node.outputs.slice(known).map((name) => g.value(name));
  const own = body.inputs.slice(0, states);
  const shown = own.map((state) => ({ ...state, name: `${state.name}${SAVED}` }));
  const copies = own.map((state, i): Node => {
    const name = at(shown, i).name;
    return { name, op: "Identity", domain: "", inputs: [state.name], outputs: [name], attributes: {}, metadata: {} };
  });
  // Every output of the node must have a name from here on, or the new ones would take the place of absent ones.
  for (let i = 0; i < body.outputs.length; i++) g.extraOutput(node, i);
  const more = { ...body, nodes: [...body.nodes, ...copies], outputs: [...body.outputs, ...shown] };
  node.attributes["body"] = { type: "graph", value: more };
  for (const flag of ["scan_output_axes", "scan_output_directions"]) {
    const list = intsAttribute(node, flag);
    if (list) node.attributes[flag] = { type: "ints", value: [...list, ...own.map(() => 0)] };
  }
  const steps = stepsOf(c, states);
  return own.map(({ type }, i) => g.addOutput(node, { type, shape: [steps, ...inputAt(c, i).shape] }));
}

function stepsOf(c: RuleContext, states: number): ValueType["shape"][number] {
  const { shape } = inputAt(c, states);
  return at(shape, positive(intsAttribute(c.node, "scan_input_axes")?.[0] ?? 0, shape.length));
}

const positive = (axis: number, rank: number): number => (axis < 0 ? axis + rank : axis);

/** One slice of a scanned value. */
const slice = ({ type, shape }: ValueType, axis: number): ValueType => ({
  type,
  shape: shape.filter((_, i) => i !== positive(axis, shape.length)),
});

/**
 * (s, y_t) = body(s, x_t): a Scan in the opposite direction over the saved states, the inputs and dY. Its body computes
 * the step again and its gradients; its states are ds and the sums of the gradients of captured values. Saves the states
 * before every step. Directions: what was read forwards is read, and its gradient written, backwards.
 */
export function scanBackward(c: RuleContext): (Value | null)[] {
  const { g, node } = c;
  const states = stateCount(node);
  const own = node.inputs.length;
  const body = bodyOf(node);
  const outputCount = body.outputs.length;
  const flags = (name: string, i: number): number => intsAttribute(node, name)?.[i] ?? 0;
  const real = body.outputs.filter((v) => !v.name.endsWith(SAVED)).length;
  const forward: Graph = { ...body, outputs: body.outputs.slice(0, real) };
  const saved = savedStates(c, states);

  const floating = [...Array(states).keys()].filter((i) => isFloating(inputAt(c, i).type));
  const captured = c.inputs.flatMap((v, i) => (i >= own && c.needs[i] && v ? [v] : []));
  const scanned = c.inputs.slice(states, own).map((_, i) => inputAt(c, states + i));
  const wantedScans = scanned.flatMap((_, j) => (c.needs[states + j] ? [j] : []));
  const given = [...Array(Math.min(outputCount, real) - states).keys()].flatMap((k) => {
    const gradient = c.dOutputs[states + k];
    return gradient ? [{ k, gradient, axis: flags("scan_output_axes", k) }] : [];
  });
  const zeros = (v: Value): Value => g.filled(v.shape, 0, v.type, v);
  const initial = [...floating.map((i) => c.dOutputs[i] ?? zeros(inputAt(c, i))), ...captured.map(zeros)];
  const reads = [
    ...scanned.map((value, j) => ({
      value,
      axis: flags("scan_input_axes", j),
      direction: 1 - flags("scan_input_directions", j),
    })),
    ...saved.map((value) => ({ value, axis: 0, direction: 1 })),
    ...given.map(({ gradient, axis, k }) => ({
      value: gradient,
      axis,
      direction: 1 - flags("scan_output_directions", k),
    })),
  ];
  const types = [
    ...floating.map((i) => inputAt(c, i)),
    ...captured,
    ...reads.map(({ value, axis }) => slice(value, axis)),
  ];
  const step = buildSubgraph(g, "scan_gradient", types, (child, values) => {
    const take = (
      (rest) => (n: number) =>
        rest.splice(0, n)
    )([...values]);
    const [dStates, sums, xs, before, dYs] = [
      take(floating.length),
      take(captured.length),
      take(scanned.length),
      take(states),
      take(given.length),
    ];
    const bound = [...before, ...xs];
    const outputs = inlineGraph(child, forward, new Map(forward.inputs.map((v, i) => [v.name, at(bound, i)])));
    const targets = [
      ...floating.map((i, n) => ({ value: at(outputs, i), gradient: at(dStates, n) })),
      ...given.map(({ k }, n) => ({ value: at(outputs, states + k), gradient: at(dYs, n) })),
    ];
    const wanted = [...floating.map((i) => at(before, i)), ...captured, ...wantedScans.map((j) => at(xs, j))];
    const gradients = c.differentiate(child, targets, wanted);
    return gradients.map((dX, i) => {
      const sum = sums[i - floating.length];
      return sum ? child.add(sum, dX) : dX;
    });
  });
  const results = g.op(
    "Scan",
    [...initial, ...reads.map(({ value }) => value)],
    {
      body: graphAttribute(step),
      num_scan_inputs: reads.length,
      scan_input_axes: reads.map(({ axis }) => axis),
      scan_input_directions: reads.map(({ direction }) => direction),
      scan_output_axes: wantedScans.map((j) => flags("scan_input_axes", j)),
      scan_output_directions: wantedScans.map((j) => 1 - flags("scan_input_directions", j)),
    },
    { count: initial.length + wantedScans.length },
  );
  const gradients: (Value | null)[] = c.inputs.map(() => null);
  floating.forEach((i, n) => {
    if (c.needs[i]) gradients[i] = at(results, n);
  });
  wantedScans.forEach((j, n) => {
    gradients[states + j] = at(results, initial.length + n);
  });
  let next = floating.length;
  c.inputs.forEach((v, i) => {
    if (i >= own && c.needs[i] && v) gradients[i] = at(results, next++);
  });
  return gradients;
}
