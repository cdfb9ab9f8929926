import type { Builder } from "../graph/builder.ts";
import type { ByRole, Method } from "../methods/method.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import type { SitePlan } from "./parameters.ts";
import type { RowLayout } from "./row-layout.ts";

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);

/** Name of the graph input behind a method's value per row: "poly.task_ids". */
export const rowInputName = (method: Method, role: string): string => `${method.type.toLowerCase()}.${snakeCase(role)}`;

/** Declares the inputs [batch, ...] that the methods of some plans read for every row, each once. */
export function declareRowInputs(g: Builder, plans: readonly SitePlan[], batch: () => Dim): void {
  for (const { method, config } of plans) {
    for (const [role, { type, shape }] of Object.entries(method.rowInputs?.(config) ?? {})) {
      const name = rowInputName(method, role);
      if (!g.has(name)) g.input(name, type, [batch(), ...shape]);
    }
  }
}

/** A plan's values per row. */
export const rowValues = (g: Builder, { method, config }: SitePlan): ByRole<Value> =>
  Object.fromEntries(
    Object.keys(method.rowInputs?.(config) ?? {}).map((role) => [role, g.value(rowInputName(method, role))]),
  );

/** [batch * perRow, ...] as [batch, perRow, ...], so that values per row and entries of a row meet; other values as they are. */
export function withBatchAxis(g: Builder, value: Value, { axis, perRow }: RowLayout, batch: Dim): Value {
  if (axis === 0 && perRow === 1) return value;
  if (axis !== 0) {
    const perm = [axis, ...value.shape.keys()].filter((d, i) => i === 0 || d !== axis);
    return g.transpose(value, perm);
  }
  return g.reshape(value, [batch, perRow, ...value.shape.slice(1)], undefined);
}

/** The reverse of {@link withBatchAxis}: `shape` is what it was given. */
export function withoutBatchAxis(g: Builder, value: Value, { axis, perRow }: RowLayout, like: Value): Value {
  if (axis === 0 && perRow === 1) return value;
  if (axis === 0) return g.reshape(value, [...like.shape.slice(0, 1), ...value.shape.slice(2)], like);
  const order = [...value.shape.keys()].slice(1);
  return g.transpose(value, [...order.slice(0, axis), 0, ...order.slice(axis)]);
}

/** x and y of a site with the batch as their first axis, where its method has values per row. */
export interface RowView {
  readonly x: Value;
  readonly y: Value;
  /** Brings a result of y's shape back into the form of the graph. */
  restore(result: Value): Value;
}

/** How rows lie in a site's x and y. */
export interface SiteLayout {
  readonly batch: Dim;
  readonly x: RowLayout;
  readonly y: RowLayout;
}

/** Values at a site as a method with values per row takes them: `layout` is asked for those only. */
export function rowView(g: Builder, { method }: SitePlan, x: Value, y: Value, layout: () => SiteLayout): RowView {
  if (!method.rowInputs) return { x, y, restore: (result) => result };
  const { batch, ...rows } = layout();
  return {
    x: withBatchAxis(g, x, rows.x, batch),
    y: withBatchAxis(g, y, rows.y, batch),
    restore: (result) => withoutBatchAxis(g, result, rows.y, y),
  };
}

/**
 * Mean over the tokens of each sequence, in a form that broadcasts against the value: [batch, tokens, n] gives [batch, 1, n], and
 * [batch * tokens, n] a value of its own shape.
 * @throws PeftError ROWS_UNKNOWN
 */
export function meanOverTokens(g: Builder, value: Value, layout: () => SiteLayout): Value {
  if (value.shape.length > 2) return g.reduceMean(value, [...value.shape.keys()].slice(1, -1));
  const { batch, y } = layout();
  const rows = withBatchAxis(g, value, y, batch); // [batch, tokens, n], or [batch, n] of one vector for each
  if (rows.shape.length === 2) return value;
  return withoutBatchAxis(g, g.expand(g.reduceMean(rows, [1]), rows.shape, rows), y, value);
}
