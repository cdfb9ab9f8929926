import type { Builder } from "../graph/builder.ts";
import { mulDims } from "../onnx/dims.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { type RowLayout, rowLayout } from "./row-layout.ts";

/** Rows that run without an adapter; the name that `peft` gives them in `adapter_names`. */
export const BASE_ROWS = "__base__";

/** Name of the graph input with the indices of an adapter's rows. */
export const rowsInputName = (adapter: string): string => `adapter_rows.${adapter}`;

/** One adapter's part of a batch. */
export interface RowSegment {
  readonly adapter: string;
  /** Indices of its rows in what is fed, int64 [rows.i]. */
  readonly rows: Value;
  /** How many they are: the symbol "rows.i". */
  readonly count: Dim;
}

/**
 * A batch whose rows stand segment after segment inside the graph, whatever order they are fed in: inputs are put in that order once,
 * outputs back into the fed one, and every module in between cuts its value into one piece for each adapter.
 */
export interface RowSegments {
  readonly batch: Dim;
  readonly list: readonly RowSegment[];
  /** Position of every row in what is fed, int64 [batch]. */
  readonly order: Value;
  /** Number of entries of each segment on an axis with `perRow` entries a row, int64 [segments]. */
  sizes(perRow: Dim): Value;
}

/** Declares the inputs that say which row belongs to which adapter. */
export function declareSegments(g: Builder, adapters: readonly string[], batch: Dim): RowSegments {
  const list = adapters.map((adapter, i): RowSegment => {
    const count = `rows.${i}`;
    return { adapter, count, rows: g.input(rowsInputName(adapter), "int64", [count]) };
  });
  const all = g.concat(
    list.map((segment) => segment.rows),
    0,
  );
  // The reshape says that the segments are the batch, in shapes and, at run time, in numbers.
  const [order] = g.op("Reshape", [all, g.shapeTensor([batch])]) as [Value];
  const known = new Map<Dim, Value>();
  return {
    batch,
    list,
    order,
    sizes(perRow) {
      const found = known.get(perRow);
      if (found) return found;
      const sizes = g.shapeTensor(list.map(({ count }) => mulDims(count, perRow)));
      known.set(perRow, sizes);
      return sizes;
    },
  };
}

/** The model's inputs with the rows in the order of the segments, by name; inputs without a batch are left out. */
export function orderedInputs(g: Builder, inputs: readonly Value[], { batch, order }: RowSegments): Map<string, Value> {
  const ordered = new Map<string, Value>();
  for (const input of inputs) {
    const layout = rowLayout(g, input, batch);
    if (layout?.perRow === 1) ordered.set(input.name, g.gather(input, order, layout.axis));
  }
  return ordered;
}

/** The pieces of a value that belong to the segments. */
export function splitRows(g: Builder, value: Value, { axis, perRow }: RowLayout, segments: RowSegments): Value[] {
  if (segments.list.length === 1) return [value];
  return g.op("Split", [value, segments.sizes(perRow)], { axis }, { count: segments.list.length });
}

/** Pieces side by side, in the shape that `like` has. */
export function joinRows(g: Builder, pieces: readonly Value[], axis: number, like: Value): Value {
  if (pieces.length === 1) return pieces[0] as Value;
  // Costs nothing: the sum of the segments' sizes is called the batch again.
  return g.op("Reshape", [g.concat(pieces, axis), g.shapeTensor(like.shape, like)])[0] as Value;
}

/** A value of the model in the order in which rows are fed; values without a batch as they are. */
export function inFedOrder(g: Builder, value: Value, { batch, order }: RowSegments): Value {
  const layout = rowLayout(g, value, batch);
  if (!layout) return value;
  const places = g.op("Range", [
    g.constant("int64", 0),
    g.squeeze(g.shapeTensor([batch]), [0]),
    g.constant("int64", 1),
  ]);
  const inverse = g.scatterElements(order, order, places[0] as Value, 0);
  const { axis, perRow } = layout;
  if (perRow === 1) return g.gather(value, inverse, axis);
  const rows = g.reshape(value, [batch, perRow, ...value.shape.slice(1)], value);
  return g.op("Reshape", [g.gather(rows, inverse), g.shapeTensor(value.shape, value)])[0] as Value;
}
