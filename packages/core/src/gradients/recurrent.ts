import { PeftError } from "../errors.ts";
import { graphAttribute } from "../graph/attributes.ts";
import type { Builder } from "../graph/builder.ts";
import { buildSubgraph } from "../graph/subgraph.ts";
import { at, intAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { upTo } from "./axes.ts";
import { inputAt } from "./helpers.ts";
import { type Cell, type CellParts, cellActivations, gruCell, lstmCell, rnnCell } from "./recurrent-cells.ts";
import { type DefinitionContext, definition } from "./rule.ts";

interface Layer {
  readonly cell: Cell;
  readonly gates: number;
  /** Inputs that hold the initial states. */
  readonly initial: readonly number[];
  readonly activations: readonly string[];
}

const refuse = (c: DefinitionContext, what: string): never => {
  throw new PeftError("UNSUPPORTED_ATTRIBUTE", `${c.node.op} "${c.node.name}" cannot be trained through: ${what}.`, {
    hint: "Choose target modules after this node.",
    details: { node: c.node.name, op: c.node.op },
  });
};

/** Names of the activations of one direction. */
function activationsOf(c: DefinitionContext, layer: Layer, direction: number): CellParts["activations"] {
  const attribute = c.node.attributes["activations"];
  const count = layer.activations.length;
  const given = attribute?.type === "strings" && attribute.value.length > 0 ? attribute.value : null;
  const names = given ? given.slice(direction * count, (direction + 1) * count) : layer.activations;
  return names.map((raw) => {
    const name = typeof raw === "string" ? raw : new TextDecoder().decode(raw);
    const key = name.toLowerCase();
    const activation = Object.hasOwn(cellActivations, key) ? cellActivations[key] : undefined;
    return activation ?? refuse(c, `its activation "${name}" is not supported`);
  });
}

/** Row `direction` of a [directions, ...] tensor, without that axis. */
const rowOf = (g: Builder, x: Value, direction: number): Value =>
  x.shape[0] === 1 ? g.squeeze(x, [0]) : g.squeeze(g.slice(x, [direction], [direction + 1], [0]), [0]);

/** 1 where a step belongs to its sequence, [time, batch, 1]. */
function stepMask(g: Builder, x: Value, lengths: Value): Value {
  const limit = g.squeeze(g.shapeTensor([at(x.shape, 0)]), [0]);
  const [steps] = g.op("Range", [g.constant("int64", 0), limit, g.constant("int64", 1)]);
  const inside = g.less(g.unsqueeze(steps as Value, [1]), g.cast(lengths, "int64"));
  return g.unsqueeze(g.cast(inside, x.type), [2]);
}

/** b_W + b_R of one direction, or for GRU with linear_before_reset b_R without its last part, and that part. */
function biasOf(g: Builder, b: Value | null, direction: number, hidden: number, gates: number, inner: boolean) {
  if (!b) return { bias: null, innerBias: null };
  const [own, recurrent] = g.split(rowOf(g, b, direction), [gates * hidden, gates * hidden], 0) as [Value, Value];
  if (!inner) return { bias: g.add(own, recurrent), innerBias: null };
  const [first, innerBias] = g.split(recurrent, [2 * hidden, hidden], 0) as [Value, Value];
  const [zr, candidate] = g.split(own, [2 * hidden, hidden], 0) as [Value, Value];
  return { bias: g.concat([g.add(zr, first), candidate], 0), innerBias };
}

/** All outputs of one direction: h of every step [time, batch, hidden] and the last states [batch, hidden]. */
function direction(c: DefinitionContext, layer: Layer, index: number, backwards: boolean): Value[] {
  const { g, node } = c;
  const [x, w, r] = [inputAt(c, 0), inputAt(c, 1), inputAt(c, 2)];
  const hidden = at(r.shape, 2);
  if (typeof hidden !== "number") return refuse(c, "the hidden size must be known");
  const linearBeforeReset = intAttribute(node, "linear_before_reset", 0) !== 0;
  const { bias, innerBias } = biasOf(
    g,
    c.inputs[3] ?? null,
    index,
    hidden,
    layer.gates,
    linearBeforeReset && layer.cell === gruCell,
  );
  const clip = node.attributes["clip"];
  const peepholes = c.inputs[7];
  const parts: CellParts = {
    hidden,
    r: rowOf(g, r, index),
    innerBias,
    peepholes: peepholes ? g.split(rowOf(g, peepholes, index), [hidden, hidden, hidden], 0) : [],
    activations: activationsOf(c, layer, index),
    coupled: intAttribute(node, "input_forget", 0) !== 0,
    linearBeforeReset,
    clip: clip?.type === "float" && clip.value > 0 ? clip.value : null,
  };
  const product = g.fusedMatMul(x, rowOf(g, w, index), { transB: true });
  const projected = bias ? g.add(product, bias) : product;
  const lengths = c.inputs[4];
  const scanned = [projected, ...(lengths ? [stepMask(g, x, lengths)] : [])];
  const state = [at(x.shape, 1), hidden];
  const initial = layer.initial.map((i) => {
    const given = c.inputs[i];
    if (given) return g.reshape(rowOf(g, given, index), state, given);
    return g.filled(state, 0, x.type);
  });
  const inputs = [...initial, ...scanned.map(({ type, shape }) => ({ type, shape: shape.slice(1) }))];
  const body = buildSubgraph(g, "step", inputs, (b, values) => {
    const states = values.slice(0, initial.length);
    const after = layer.cell(b, parts, at(values, initial.length), states);
    const mask = values[initial.length + 1];
    if (!mask) return [...after, at(after, 0)];
    const kept = after.map((next, i) => b.add(at(states, i), b.mul(mask, b.sub(next, at(states, i)))));
    return [...kept, b.mul(mask, at(after, 0))];
  });
  const flag = backwards ? 1 : 0;
  const results = g.op(
    "Scan",
    [...initial, ...scanned],
    {
      body: graphAttribute(body),
      num_scan_inputs: scanned.length,
      scan_input_directions: scanned.map(() => flag),
      scan_output_directions: [flag],
    },
    { count: initial.length + 1 },
  );
  return [at(results, -1), ...results.slice(0, -1)];
}

/**
 * A recurrent layer as one product x·Wᵀ for all steps and a Scan over time whose body is the cell; the gradient is that of
 * Scan. `reverse` reads time backwards. Sequences that are shorter than the longest keep their states after their end
 * (before their start when read backwards) and show zeros.
 */
const recurrent = (layer: Layer) =>
  definition([11, 24], (c) => {
    const { g, node } = c;
    if (intAttribute(node, "layout", 0) !== 0) refuse(c, "layout 1 is not run by ONNX Runtime on CPUs");
    const way = stringAttribute(node, "direction", "forward");
    const ways = way === "bidirectional" ? [false, true] : [way === "reverse"];
    const found = ways.map((backwards, index) => direction(c, layer, index, backwards));
    return upTo(node.outputs.length).map((i) => {
      if (!c.outputs[i]) return null;
      const axis = i === 0 ? 1 : 0;
      return g.concat(
        found.map((list) => g.unsqueeze(at(list, i), [axis])),
        axis,
      );
    });
  });

/** Recurrent layers. Inputs: X, W, R, B, sequence_lens, initial_h, and for LSTM initial_c and the peephole weights P. */
export const recurrents = {
  LSTM: recurrent({ cell: lstmCell, gates: 4, initial: [5, 6], activations: ["sigmoid", "tanh", "tanh"] }),
  GRU: recurrent({ cell: gruCell, gates: 3, initial: [5], activations: ["sigmoid", "tanh"] }),
  RNN: recurrent({ cell: rnnCell, gates: 1, initial: [5], activations: ["tanh"] }),
};
