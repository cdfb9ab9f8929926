import { PeftError } from "../errors.ts";
import { circulantTables, fullTables, paleyOrders } from "./hadamard-tables.ts";
import { type Matrix, matrix, matrixFrom } from "./matrix.ts";

/** Signs of a row in hexadecimal, most significant bit first. */
const signsOf = (hex: string): number[] =>
  [...hex].flatMap((digit) => [8, 4, 2, 1].map((bit) => ((Number.parseInt(digit, 16) & bit) === 0 ? -1 : 1)));

/**
 * Paley's first construction: first row -1, first column 1, and inside 1 on the diagonal and -chi(j - i) elsewhere, chi being 1 for
 * squares modulo q. Paley 1933, "On orthogonal matrices".
 */
function paley(order: number): Matrix {
  const q = order - 1;
  const squares = new Set<number>();
  for (let a = 1; a < q; a++) squares.add((a * a) % q);
  return matrixFrom(order, order, (i, j) => {
    if (j === 0) return 1;
    if (i === 0) return -1;
    if (i === j) return 1;
    return squares.has((j - i + q) % q) ? -1 : 1;
  });
}

function circulantBlocks(rows: readonly string[]): Matrix {
  const first = rows.map(signsOf);
  const order = first[0]?.length ?? 0;
  const p = order / rows.length;
  return matrixFrom(order, order, (i, j) => {
    const shifted = ((((j % p) - (i % p)) % p) + p) % p;
    return first[Math.floor(i / p)]?.[Math.floor(j / p) * p + shifted] ?? 0;
  });
}

function makeTable(order: number): Matrix | null {
  if (paleyOrders.includes(order)) return paley(order);
  const rows = fullTables.get(order);
  if (rows) return matrix(order, order, rows.flatMap(signsOf));
  const blocks = circulantTables.get(order);
  return blocks ? circulantBlocks(blocks) : null;
}

const tables = new Map<number, Matrix>();

function tableOf(order: number): Matrix | null {
  const known = tables.get(order);
  if (known) return known;
  const made = makeTable(order);
  if (made) tables.set(order, made);
  return made;
}

const isPowerOfTwo = (n: number): boolean => Number.isSafeInteger(n) && n >= 1 && Number.isInteger(Math.log2(n));

/** Orders with a table, in the order in which the published code tries them: 40 before 20, and so on. */
const tableOrders = [172, 156, 140, 108, 60, 52, 36, 28, 40, 20, 12];

/** n = order · 2^k with a table of `order`, or a power of two. @throws PeftError HADAMARD_ORDER */
function factorsOf(n: number): { table: Matrix | null; power: number } {
  if (isPowerOfTwo(n)) return { table: null, power: n };
  for (const order of tableOrders) {
    if (n % order !== 0 || !isPowerOfTwo(n / order)) continue;
    return { table: tableOf(order), power: n / order };
  }
  throw new PeftError(
    "HADAMARD_ORDER",
    `expected a power of two, or one times ${[...tableOrders].sort((a, b) => a - b).join(", ")}, received ${n}.`,
  );
}

/** Butterflies over each stretch of `power` numbers, neighbours first: the Sylvester matrix in natural order. */
function butterflies(data: Float64Array, power: number): void {
  for (let half = 1; half < power; half *= 2) {
    for (let start = 0; start < data.length; start += 2 * half) {
      for (let i = start; i < start + half; i++) {
        const [x, y] = [data[i] as number, data[i + half] as number];
        data[i] = x + y;
        data[i + half] = x - y;
      }
    }
  }
}

/** The table along the slow index of every row of n = order · power numbers. */
function mixBlocks(data: Float64Array, table: Matrix, power: number, transposed: boolean): Float64Array {
  const { rows: order } = table;
  const out = new Float64Array(data.length);
  const length = order * power;
  for (let row = 0; row < data.length; row += length) {
    for (let i = 0; i < order; i++) {
      for (let k = 0; k < order; k++) {
        const sign = table.data[transposed ? k * order + i : i * order + k] as number;
        const [to, from] = [row + i * power, row + k * power];
        for (let j = 0; j < power; j++) out[to + j] = (out[to + j] as number) + sign * (data[from + j] as number);
      }
    }
  }
  return out;
}

/** True for the orders that {@link hadamard} has. */
export function isHadamardOrder(n: number): boolean {
  try {
    factorsOf(n);
    return true;
  } catch (error) {
    if (PeftError.isInstance(error)) return false;
    throw error;
  }
}

function transform({ rows, columns, data }: Matrix, transposed: boolean, factor: number): Matrix {
  const { table, power } = factorsOf(columns);
  let out = Float64Array.from(data);
  butterflies(out, power);
  if (table) out = Float64Array.from(mixBlocks(out, table, power, transposed));
  if (factor !== 1) for (let i = 0; i < out.length; i++) out[i] = (out[i] as number) * factor;
  return { rows, columns, data: out };
}

/**
 * Hadamard matrix H of order n, entries 1 and -1, H·Hᵀ = n·I. n is a power of two (Sylvester, natural order), or K 2^k for K of 12, 20,
 * 28, 36, 40, 52, 60, 108, 140, 156, 172: the published H_K (Kronecker) H_{2^k}.
 * @throws PeftError HADAMARD_ORDER
 * @example
 * hadamard(2).data; // Float64Array [1, 1, 1, -1]
 */
export function hadamard(n: number): Matrix {
  const { table, power } = factorsOf(n);
  const bits = (x: number): number => {
    let odd = 0;
    for (let rest = x; rest > 0; rest &= rest - 1) odd ^= 1;
    return odd;
  };
  return matrixFrom(n, n, (i, j) => {
    const sign = table?.data[Math.floor(i / power) * table.columns + Math.floor(j / power)] ?? 1;
    return bits((i % power) & (j % power)) === 1 ? -sign : sign;
  });
}

/**
 * Walsh-Hadamard transform of every row: f becomes H f, unscaled; n log n additions for a row when n is a power of two.
 * @throws PeftError HADAMARD_ORDER
 * @example
 * wht(matrix(1, 2, [3, 1])).data; // Float64Array [4, 2]
 */
export const wht = (rows: Matrix): Matrix => transform(rows, false, 1);

/**
 * The inverse of {@link wht}: every row f becomes Hᵀ f / n.
 * @throws PeftError HADAMARD_ORDER
 */
export const iwht = (rows: Matrix): Matrix => transform(rows, true, 1 / rows.columns);
