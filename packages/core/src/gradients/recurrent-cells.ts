import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";

type Activation = (g: Builder, x: Value) => Value;

/** Activations without parameters. The others (HardSigmoid, LeakyRelu, ...) do not occur in exported recurrent layers. */
export const cellActivations: Readonly<Record<string, Activation>> = {
  sigmoid: (g, x) => g.sigmoid(x),
  tanh: (g, x) => g.tanh(x),
  relu: (g, x) => g.relu(x),
  softsign: (g, x) => g.op("Softsign", [x])[0] as Value,
  softplus: (g, x) => g.op("Softplus", [x])[0] as Value,
};

/** One direction of a recurrent layer: what a step needs beside its states, read inside the body of a Scan. */
export interface CellParts {
  readonly hidden: number;
  /** [gates * hidden, hidden] */
  readonly r: Value;
  /** The recurrent bias of GRU's hidden gate, [hidden], when it stays inside the reset gate's product; else null. */
  readonly innerBias: Value | null;
  /** LSTM's weights from the cell to the gates i, o and f, [hidden] each; empty without peepholes. */
  readonly peepholes: readonly Value[];
  readonly activations: readonly Activation[];
  /** LSTM: the forget gate is 1 - the input gate. */
  readonly coupled: boolean;
  /** GRU: the reset gate multiplies h·Rᵀ + b and not h. */
  readonly linearBeforeReset: boolean;
  /** Limits what goes into an activation to [-clip, clip]; null: no limit. */
  readonly clip: number | null;
}

/** A step from x·Wᵀ + b [batch, gates * hidden] and the states before it to the states after it, the output h first. */
export type Cell = (g: Builder, parts: CellParts, projected: Value, states: readonly Value[]) => Value[];

function activate(g: Builder, parts: CellParts, index: number, x: Value): Value {
  const limited =
    parts.clip === null
      ? x
      : (g.op("Clip", [x, g.constant(x.type, -parts.clip), g.constant(x.type, parts.clip)])[0] as Value);
  const activation = parts.activations[index] ?? cellActivations["tanh"];
  return activation ? activation(g, limited) : limited;
}

const parted = (g: Builder, x: Value, parts: CellParts, count: number): Value[] =>
  g.split(
    x,
    Array.from({ length: count }, () => parts.hidden),
    -1,
  );

/**
 * i, o, f, c~ = f(a_i + P_i c), f(a_o + P_o c'), f(a_f + P_f c), g(a_c) with a = x·Wᵀ + h·Rᵀ + b:
 * c' = f c + i c~, h' = o h(c').
 */
export const lstmCell: Cell = (g, parts, projected, states) => {
  const [h, c] = states as [Value, Value];
  const [pi, po, pf] = parts.peepholes;
  const sums = parted(g, g.gemm(h, parts.r, projected, { transB: true }), parts, 4) as [Value, Value, Value, Value];
  const [ai, ao, af, ac] = sums;
  const peep = (a: Value, p: Value | undefined, cell: Value): Value => (p ? g.add(a, g.mul(p, cell)) : a);
  const i = activate(g, parts, 0, peep(ai, pi, c));
  const f = parts.coupled ? g.sub(1, i) : activate(g, parts, 0, peep(af, pf, c));
  const cell = g.add(g.mul(f, c), g.mul(i, activate(g, parts, 1, ac)));
  const o = activate(g, parts, 0, peep(ao, po, cell));
  return [g.mul(o, activate(g, parts, 2, cell)), cell];
};

/**
 * z, r = f(x·Wᵀ + h·Rᵀ + b), n = g(x·W_hᵀ + (r h)·R_hᵀ + b) or, linear before reset, g(x·W_hᵀ + r (h·R_hᵀ + b_h)):
 * h' = (1 - z) n + z h.
 */
export const gruCell: Cell = (g, parts, projected, states) => {
  const [h] = states as [Value];
  const { hidden } = parts;
  const [gates, candidate] = g.split(projected, [2 * hidden, hidden], -1) as [Value, Value];
  const [rGates, rHidden] = g.split(parts.r, [2 * hidden, hidden], 0) as [Value, Value];
  const both = g.gemm(h, rGates, gates, { transB: true });
  const [z, r] = parted(g, activate(g, parts, 0, both), parts, 2) as [Value, Value];
  const sum = parts.linearBeforeReset
    ? g.add(candidate, g.mul(r, g.gemm(h, rHidden, parts.innerBias, { transB: true })))
    : g.gemm(g.mul(r, h), rHidden, candidate, { transB: true });
  const n = activate(g, parts, 1, sum);
  return [g.add(n, g.mul(z, g.sub(h, n)))];
};

/** h' = f(x·Wᵀ + h·Rᵀ + b). */
export const rnnCell: Cell = (g, parts, projected, states) => {
  const [h] = states as [Value];
  return [activate(g, parts, 0, g.gemm(h, parts.r, projected, { transB: true }))];
};
