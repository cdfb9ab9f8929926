import type { ValueType } from "../ir.ts";
import type { Infer } from "./context.ts";
import { at, fail, input, intAttribute } from "./context.ts";

/**
 * X [time, batch, input], W [directions, gates * hidden, input], R [directions, gates * hidden, hidden]: Y [time, directions,
 * batch, hidden], and the last state or states [directions, batch, hidden]. With layout 1 the batch comes first everywhere.
 */
const recurrent =
  (states: number): Infer =>
  (c) => {
    const [x, r] = [input(c, 0), input(c, 2)];
    if (x.shape.length !== 3 || r.shape.length !== 3) fail(c, "expected three axes in X and R.");
    const batchFirst = intAttribute(c.node, "layout", 0) === 1;
    const [time, batch] = batchFirst ? [at(x.shape, 1), at(x.shape, 0)] : [at(x.shape, 0), at(x.shape, 1)];
    const [directions, hidden] = [at(r.shape, 0), at(r.shape, 2)];
    const type = x.type;
    const all: ValueType = {
      type,
      shape: batchFirst ? [batch, time, directions, hidden] : [time, directions, batch, hidden],
    };
    const last: ValueType = { type, shape: batchFirst ? [batch, directions, hidden] : [directions, batch, hidden] };
    return [all, ...Array.from({ length: states }, () => last)];
  };

/** Recurrent layers. */
export const recurrents = {
  LSTM: recurrent(2),
  GRU: recurrent(1),
  RNN: recurrent(1),
} satisfies Record<string, Infer>;
