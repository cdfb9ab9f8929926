import { PeftError } from "../errors.ts";
import type { Feeds, RuntimeTensor } from "../runtime/runtime.ts";

/** What is written where a row is shorter than the longest of all members, by input. */
export type Padding = Readonly<Record<string, number>>;

const sizeOf = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** An array of a tensor's own kind. */
function emptyLike({ data, type }: RuntimeTensor, length: number, name: string): RuntimeTensor["data"] {
  if (data instanceof Float32Array) return new Float32Array(length);
  if (data instanceof BigInt64Array) return new BigInt64Array(length);
  if (data instanceof Int32Array) return new Int32Array(length);
  if (data instanceof Uint8Array) return new Uint8Array(length);
  throw new PeftError("FEED_TYPE", `Feeds of type ${type} ("${name}") cannot be put together with others.`);
}

/** Copies a tensor into the front corner of a larger one, `offset` rows down. */
function place(target: RuntimeTensor["data"], dims: readonly number[], source: RuntimeTensor, offset: number): void {
  const rows = source.dims.slice(0, -1);
  const width = source.dims.at(-1) ?? 1;
  const strides = dims.map((_, axis) => sizeOf(dims.slice(axis + 1)));
  const index = rows.map(() => 0);
  for (let row = 0; row < sizeOf(rows); row++) {
    const at = index.reduce((sum, i, axis) => sum + (i + (axis === 0 ? offset : 0)) * (strides[axis] as number), 0);
    const start = dims.length === 1 ? offset : at;
    const part = source.data.subarray(row * width, (row + 1) * width);
    (target as { set(part: ArrayLike<unknown>, at: number): void }).set(part as ArrayLike<unknown>, start);
    for (let axis = index.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (rows[axis] as number)) break;
      index[axis] = 0;
    }
  }
}

/**
 * The micro-batches of several adapters as one: rows one below the other, shorter ones padded.
 * @param padding value for each input whose rows may differ in size.
 * @throws PeftError FEED_NAMES when they do not feed the same inputs, PADDING_UNKNOWN, FEED_TYPE
 * @example
 * joinFeeds([a, b], { input_ids: 0, attention_mask: 0, labels: -100 });
 */
export function joinFeeds(parts: readonly Feeds[], padding: Padding): Feeds {
  const [first = {}] = parts;
  if (parts.length === 1) return first;
  const names = Object.keys(first).sort();
  const other = parts.find((part) => Object.keys(part).sort().join() !== names.join());
  if (other) {
    throw new PeftError(
      "FEED_NAMES",
      `Expected the inputs [${names.join(", ")}] of every adapter's batch, received [${Object.keys(other).sort().join(", ")}].`,
    );
  }
  return Object.fromEntries(names.map((name) => [name, joined(name, parts, padding)]));
}

function joined(name: string, parts: readonly Feeds[], padding: Padding): RuntimeTensor {
  const tensors = parts.map((part) => part[name] as RuntimeTensor);
  const [first] = tensors as [RuntimeTensor];
  if (first.dims.length === 0) {
    throw new PeftError(
      "FEED_TYPE",
      `Expected rows in the input "${name}" of every adapter's batch, received a scalar.`,
    );
  }
  const rest = first.dims.slice(1).map((_, axis) => Math.max(...tensors.map((t) => t.dims[axis + 1] ?? 0)));
  const dims = [tensors.reduce((sum, t) => sum + (t.dims[0] ?? 0), 0), ...rest];
  const data = emptyLike(first, sizeOf(dims), name);
  if (tensors.some((t) => t.dims.some((size, axis) => axis > 0 && size !== rest[axis - 1]))) {
    const value = padding[name];
    if (value === undefined) {
      throw new PeftError(
        "PADDING_UNKNOWN",
        `Rows of "${name}" differ in size, and nothing is said about their padding.`,
        {
          hint: `Give padding: { ${JSON.stringify(name)}: <value> }.`,
        },
      );
    }
    if (data instanceof BigInt64Array) data.fill(BigInt(value));
    else data.fill(value);
  }
  let offset = 0;
  for (const tensor of tensors) {
    if (sizeOf(tensor.dims) > 0) place(data, dims, tensor, offset);
    offset += tensor.dims[0] ?? 0;
  }
  return { type: first.type, dims, data };
}
