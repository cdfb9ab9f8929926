import type { InitInput } from "./init.ts";
import type { AdapterTensor } from "./method.ts";

/** What decides into how many blocks a rank is divided. */
export interface BlockSizes {
  readonly init: "c0" | "single" | "eye" | "cb0" | "abc0";
  readonly initRank: number;
  /** Ranks that a growth adds. */
  readonly step: number;
}

/**
 * Ends o_1, o_2, ... of the blocks of a rank: the first one has the initial rank, every growth adds one of `step`, the last one may be
 * smaller. With "single" all blocks have size 1.
 */
export function blockEnds(rank: number, { init, initRank, step }: BlockSizes): number[] {
  const [first, size] = init === "single" ? [1, 1] : [Math.min(initRank, rank), step];
  const ends = [first];
  for (let end = first; end < rank; ) {
    end = Math.min(end + size, rank);
    ends.push(end);
  }
  return ends;
}

/** For every rank the end of its block. */
export const endOfRank = (ends: readonly number[]): number[] =>
  ends.flatMap((end, i) => Array.from({ length: end - (ends[i - 1] ?? 0) }, () => end));

/** Entries of one of the triangular parts: sum of a_i o_i. */
export const triangleEntries = (ends: readonly number[]): number =>
  ends.reduce((sum, end, i) => sum + (end - (ends[i - 1] ?? 0)) * end, 0);

/** Clears what is outside the pattern of L (rows of a block reach to its end), or of U, its transpose. */
export function keepTriangle(values: Float32Array, ends: readonly number[], part: "L" | "U"): void {
  const reach = endOfRank(ends);
  const r = reach.length;
  for (let row = 0; row < r; row++) {
    for (let column = 0; column < r; column++) {
      const [along, across] = part === "L" ? [row, column] : [column, row];
      if (across >= (reach[along] as number)) values[row * r + column] = 0;
    }
  }
}

/** |L + U|_F divided by the number of blocks. */
export function normPerBlock(lower: Float32Array, upper: Float32Array, blocks: number): number {
  let sum = 0;
  for (let i = 0; i < lower.length; i++) sum += ((lower[i] as number) + (upper[i] as number)) ** 2;
  return Math.sqrt(sum) / blocks;
}

/** Start values of rows `from` to the end of L, of columns of U: N(0, 0.02²), the rectangular identity, or zero. */
export function startTriangle(
  values: Float32Array,
  ends: readonly number[],
  from: number,
  part: "L" | "U",
  { init }: BlockSizes,
  random: InitInput["random"],
): void {
  const reach = endOfRank(ends);
  const r = reach.length;
  if (init !== "single" && init !== "eye") return;
  for (let along = from; along < r; along++) {
    const end = reach[along] as number;
    const inBlock = along - Math.max(0, ...ends.filter((e) => e <= along));
    for (let across = 0; across < end; across++) {
      const at = part === "L" ? along * r + across : across * r + along;
      values[at] = init === "eye" ? (across === inBlock ? 1 : 0) : 0.02 * random.normal();
    }
  }
}

/** Rows or columns `from` to `to` of a matrix. */
export function cut(
  { dims, data }: AdapterTensor,
  [rowFrom, rowTo]: readonly [number, number],
  [from, to]: readonly [number, number],
): AdapterTensor {
  const [, columns = 0] = dims;
  const [rows, width] = [rowTo - rowFrom, to - from];
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const start = (rowFrom + row) * columns;
    values.set(data.subarray(start + from, start + to), row * width);
  }
  return { dims: [rows, width], data: values };
}

/** Writes a matrix into a larger one of `columns` columns. */
export function paste(target: Float32Array, columns: number, part: AdapterTensor, row: number, column: number): void {
  const [rows = 0, width = 0] = part.dims;
  for (let i = 0; i < rows; i++) {
    target.set(part.data.subarray(i * width, (i + 1) * width), (row + i) * columns + column);
  }
}
