import type { Builder } from "../graph/builder.ts";
import { type Matrix, matrixFrom } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { roleOf } from "./dense.ts";
import { uniform } from "./init.ts";
import type { AdapterTensor, ByRole, ParameterSpec } from "./method.ts";

/** A bidirectional LSTM with PyTorch's tensors: gates i, f, g, o, names weight_ih_l0, ..., bias_hh_l1_reverse. */
export interface LstmStack {
  /** Before the names of its tensors. */
  readonly name: string;
  readonly input: number;
  readonly hidden: number;
  readonly layers: number;
  /** Share of values dropped between layers in training. */
  readonly dropout: number;
}

const directions = ["", "_reverse"] as const;
const tensorNames = ({ name }: LstmStack, layer: number, direction: string) => ({
  wIh: `${name}.weight_ih_l${layer}${direction}`,
  wHh: `${name}.weight_hh_l${layer}${direction}`,
  bIh: `${name}.bias_ih_l${layer}${direction}`,
  bHh: `${name}.bias_hh_l${layer}${direction}`,
});

/** W_ih [4h, in], W_hh [4h, h], b_ih and b_hh [4h] of every layer and direction, uniform in ±1 / sqrt(h) as PyTorch starts them. */
export function lstmSpecs(stack: LstmStack): ByRole<ParameterSpec> {
  const { input, hidden } = stack;
  const init = uniform(1 / Math.sqrt(hidden));
  const specs: Record<string, ParameterSpec> = {};
  for (let layer = 0; layer < stack.layers; layer++) {
    const width = layer === 0 ? input : 2 * hidden;
    for (const direction of directions) {
      const { wIh, wHh, bIh, bHh } = tensorNames(stack, layer, direction);
      specs[wIh] = { shape: [4 * hidden, width], init };
      specs[wHh] = { shape: [4 * hidden, hidden], init };
      specs[bIh] = { shape: [4 * hidden], init };
      specs[bHh] = { shape: [4 * hidden], init };
    }
  }
  return specs;
}

/** Hidden states of both directions side by side: x [steps, input] to [steps, 2 hidden]. */
export function lstmForward(g: Builder, x: Value, values: ByRole<Value>, stack: LstmStack): Value {
  const { hidden } = stack;
  /** Gates i, f, g, o in ONNX's order i, o, f, g. */
  const reordered = (role: string): Value => {
    const [i, f, c, o] = g.split(roleOf(values, role), [hidden, hidden, hidden, hidden], 0) as [
      Value,
      Value,
      Value,
      Value,
    ];
    return g.concat([i, o, f, c], 0);
  };
  const stacked = (parts: readonly Value[]): Value =>
    g.concat(
      parts.map((part) => g.unsqueeze(part, [0])),
      0,
    );
  let states = g.unsqueeze(x, [1]); // [steps, 1, input]
  for (let layer = 0; layer < stack.layers; layer++) {
    const names = directions.map((direction) => tensorNames(stack, layer, direction));
    const w = stacked(names.map(({ wIh }) => reordered(wIh)));
    const r = stacked(names.map(({ wHh }) => reordered(wHh)));
    const b = stacked(names.map(({ bIh, bHh }) => g.concat([reordered(bIh), reordered(bHh)], 0)));
    const seen = layer === 0 ? states : g.dropout(states, stack.dropout);
    const [y] = g.op("LSTM", [seen, w, r, b], { hidden_size: hidden, direction: "bidirectional" }); // [steps, 2, 1, hidden]
    states = g.reshape(g.transpose(y as Value, [0, 2, 1, 3]), [x.shape[0] ?? 1, 1, 2 * hidden]);
  }
  return g.squeeze(states, [1]);
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** One direction of a layer, in double precision: hidden states by step. */
function run(x: Matrix, tensors: ByRole<AdapterTensor>, names: ReturnType<typeof tensorNames>, order: number[]) {
  const [wIh, wHh, bIh, bHh] = [names.wIh, names.wHh, names.bIh, names.bHh].map(
    (name) => roleOf(tensors, name).data,
  ) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const hidden = bIh.length / 4;
  let [h, c] = [new Float64Array(hidden), new Float64Array(hidden)];
  const states: Float64Array[] = [];
  for (const step of order) {
    const gate = (row: number): number => {
      let sum = (bIh[row] as number) + (bHh[row] as number);
      for (let k = 0; k < x.columns; k++)
        sum += (wIh[row * x.columns + k] as number) * (x.data[step * x.columns + k] as number);
      for (let k = 0; k < hidden; k++) sum += (wHh[row * hidden + k] as number) * (h[k] as number);
      return sum;
    };
    const cell = c.map(
      (before, k) => sigmoid(gate(hidden + k)) * before + sigmoid(gate(k)) * Math.tanh(gate(2 * hidden + k)),
    );
    h = cell.map((v, k) => sigmoid(gate(3 * hidden + k)) * Math.tanh(v));
    c = cell;
    states[step] = h;
  }
  return states;
}

/** {@link lstmForward} outside a graph, in double precision and without dropout. */
export function lstmResult(x: Matrix, tensors: ByRole<AdapterTensor>, stack: LstmStack): Matrix {
  const steps = Array.from({ length: x.rows }, (_, i) => i);
  let states = x;
  for (let layer = 0; layer < stack.layers; layer++) {
    const [forward, backward] = directions.map((direction, i) =>
      run(states, tensors, tensorNames(stack, layer, direction), i === 0 ? steps : [...steps].reverse()),
    );
    const { hidden } = stack;
    states = matrixFrom(x.rows, 2 * hidden, (i, j) =>
      j < hidden ? (forward?.[i]?.[j] ?? 0) : (backward?.[i]?.[j - hidden] ?? 0),
    );
  }
  return states;
}
