import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { iwht, wht } from "../linalg/hadamard.ts";
import { solve } from "../linalg/lu.ts";
import {
  columnRange,
  diagonal,
  type Matrix,
  matrix,
  matrixFrom,
  multiply,
  rowRange,
  scaleRows,
  subtract,
  transpose,
} from "../linalg/matrix.ts";
import { svd } from "../linalg/svd.ts";
import { symmetricEigen } from "../linalg/symmetric-eigen.ts";
import { createRandom } from "../random/random.ts";
import { qwha } from "./qwha.ts";
import {
  allocate,
  type Coefficients,
  refine,
  selectPlaces,
  startCoefficients,
  type TransformedError,
  transformError,
} from "./qwha-start.ts";

const random = createRandom("qwha start");
const normal = (rows: number, columns: number): Matrix => matrixFrom(rows, columns, () => random.normal());

/** The change F·H / in that coefficients make. */
function changeOf({ rows, columns, values }: Coefficients, out: number, width: number): Matrix {
  const f = matrix(out, width);
  values.forEach((v, k) => {
    f.data[(rows[k] as number) * width + (columns[k] as number)] = v;
  });
  return iwht(f);
}
/** |R·Eᵀ|² = trace(E·C·Eᵀ). */
const seen = (error: Matrix, gram: Matrix): number =>
  multiply(error, gram).data.reduce((sum, v, i) => sum + v * (error.data[i] as number), 0);
const normsOf = ({ spectrum }: TransformedError): Float64Array =>
  Float64Array.from({ length: spectrum.rows }, (_, i) =>
    Math.hypot(...spectrum.data.subarray(i * spectrum.columns, (i + 1) * spectrum.columns)),
  );
/** Coefficients with given counts per output, at chosen places, with given values. */
function coefficientsFrom(
  counts: ArrayLike<number>,
  placesOf: (i: number, count: number) => Int32Array,
  valuesOf: (i: number, places: Int32Array) => ArrayLike<number>,
): Coefficients {
  const parts = Array.from(counts, (count, i) => {
    const places = placesOf(i, count);
    return { i, places, values: Array.from(valuesOf(i, places)) };
  });
  return {
    rows: Int32Array.from(parts.flatMap(({ i, places }) => [...places].map(() => i))),
    columns: Int32Array.from(parts.flatMap(({ places }) => [...places])),
    values: Float64Array.from(parts.flatMap(({ values }) => values)),
  };
}

interface Golden {
  readonly shape: [number, number];
  readonly r: number;
  readonly scaling: number;
  readonly error: number[];
  readonly gram: number[];
  readonly counts: number[];
  readonly rows: number[];
  readonly columns: number[];
  readonly values: number[];
  readonly share_left: number;
}

test("places and values are those of the specification written out in NumPy", () => {
  const golden = JSON.parse(
    readFileSync(new URL("../../../../parity/golden/qwha-start.json", import.meta.url), "utf8"),
  ) as Golden;
  const [out, width] = golden.shape;
  const [error, gram] = [matrix(out, width, golden.error), matrix(width, width, golden.gram)];
  const transformed = transformError(error, gram);
  expect([...allocate(normsOf(transformed), golden.r * (out + width), width)]).toEqual(golden.counts);
  const shape = { inFeatures: width, outFeatures: out, weightShape: [out, width] };
  const site = { name: "a", kind: "linear", ...shape, hasBias: false } as const;
  const started = qwha.start!({
    site,
    config: qwha.config.parse({ r: golden.r, scaling: golden.scaling, initWeights: "quantization" }),
    frozen: { weight: () => new Float32Array(out * width), bias: () => new Float32Array() },
    original: { weight: () => Float32Array.from(golden.error), bias: () => new Float32Array() },
    random: createRandom(1),
    data: { gram },
  });
  expect([...started["positions"]!]).toEqual([...golden.rows, ...golden.columns]);
  for (const [i, v] of golden.values.entries()) expect(started["values"]![i]).toBeCloseTo(v, 5);
  const left = seen(
    subtract(error, changeOf(startCoefficients(transformed, golden.r * (out + width)), out, width)),
    gram,
  );
  expect(left / seen(error, gram)).toBeCloseTo(golden.share_left, 3);
});

test("the spectrum is what the linear system N·X = R·Eᵀ gives", () => {
  const [error, rows] = [normal(9, 24), normal(50, 24)];
  const gram = multiply(rows, rows, { transA: true });
  const { values, vectors } = symmetricEigen(gram);
  const root = multiply(diagonal(values.map(Math.sqrt)), vectors, { transB: true });
  const n = scaleRows(wht(root), new Float64Array(24).fill(1 / 24));
  const solved = solve(n, multiply(root, error, { transB: true }));
  const found = transpose(transformError(error, gram).spectrum);
  for (const [i, v] of solved.data.entries()) expect(Math.abs(v - found.data[i]!)).toBeLessThan(1e-4);
});

describe("counts", () => {
  test.each([
    [[5, 1, 1, 1], 40],
    [[1000, 1, 1, 0], 40], // the first is cut at 16
    [[1000, 999, 0.001, 0], 63],
    [[3, 2, 1, 1], 64], // everything
    [[0, 0, 0, 0], 9],
  ])("of norms %j add up to %i", (norms, budget) => {
    const counts = allocate(norms, budget, 16);
    expect(counts.reduce((a, b) => a + b, 0)).toBe(budget);
    expect(Math.max(...counts)).toBeLessThanOrEqual(16);
    // Larger norms never get less.
    for (let i = 1; i < norms.length; i++) expect(counts[i]! <= counts[i - 1]! + 1).toBe(true);
  });

  test("follow the norms, and are even with temperature 0", () => {
    expect([...allocate([6, 3, 1], 10, 16)]).toEqual([6, 3, 1]);
    expect([...allocate([6, 3, 1], 12, 16, 0)]).toEqual([4, 4, 4]);
  });
});

test.each([
  [8, 8],
  [12, 24],
  [24, 12],
])("with all coefficients of [%i, %i] the error is gone", (out, width) => {
  const [error, rows] = [normal(out, width), normal(40, width)];
  const gram = multiply(rows, rows, { transA: true });
  const change = changeOf(startCoefficients(transformError(error, gram), out * width), out, width);
  for (const [i, v] of change.data.entries()) expect(Math.abs(v - error.data[i]!)).toBeLessThan(1e-8);
});

/** Rounds to the nearest of 2^bits levels between the ends of a group. */
function rounded(w: Matrix, bits: number, group: number): Matrix {
  const result = matrix(w.rows, w.columns);
  for (let start = 0; start < w.data.length; start += group) {
    const part = w.data.subarray(start, start + group);
    const [low, high] = [Math.min(0, ...part), Math.max(0, ...part)];
    const step = (high - low) / (2 ** bits - 1) || 1;
    const zero = Math.round(-low / step);
    part.forEach((v, i) => {
      const code = Math.min(2 ** bits - 1, Math.max(0, Math.round(v / step) + zero));
      result.data[start + i] = (code - zero) * step;
    });
  }
  return result;
}

/** Leading part of rank r. */
function leading(a: Matrix, r: number): Matrix {
  const { u, s, vt } = svd(a);
  return multiply(columnRange(u, 0, r), scaleRows(rowRange(vt, 0, r), s.subarray(0, r)));
}

describe("reference trial: 256 x 256, 2 bits, groups of 64, r 16, correlated inputs", () => {
  const [size, r] = [256, 16];
  const budget = r * 2 * size;
  const inputs = multiply(
    normal(1024, size),
    scaleRows(normal(size, size), matrixFrom(1, size, (_, j) => 1 / (1 + j) ** 0.3).data),
  );
  const gram = multiply(inputs, inputs, { transA: true });

  function trial(unequal: boolean) {
    const w = scaleRows(
      normal(size, size),
      matrixFrom(1, size, () => (unequal ? Math.exp(0.5 * random.normal()) : 1)).data,
    );
    const error = subtract(w, rounded(w, 2, 64));
    const transformed = transformError(error, gram);
    const all = seen(error, gram);
    const share = (left: Matrix): number => seen(left, gram) / all;
    const withCounts = (counts: ArrayLike<number>, refined: boolean, drawn = false): number => {
      const places = (i: number, count: number): Int32Array =>
        drawn ? random.permutation(size).slice(0, count).sort() : selectPlaces(transformed, i, count);
      const values = (i: number, chosen: Int32Array): ArrayLike<number> =>
        refined
          ? refine(transformed, i, chosen)
          : Float64Array.from(chosen, (j) => transformed.spectrum.data[i * size + j] as number);
      return share(subtract(error, changeOf(coefficientsFrom(counts, places, values), size, size)));
    };
    const even = new Int32Array(size).fill(budget / size);
    const ada = allocate(normsOf(transformed), budget, size);
    let [base, low] = [rounded(w, 2, 64), matrix(size, size)];
    for (let k = 0; k < 5; k++) {
      low = leading(subtract(w, base), r);
      if (k < 4) base = rounded(subtract(w, low), 2, 64);
    }
    // The best change of rank 16 that knows the data: what the squared singular values of R·Eᵀ beyond it add up to.
    const energies = symmetricEigen(multiply(multiply(error, gram), error, { transB: true })).values;
    const beyond = energies.subarray(0, size - r).reduce((a, b) => a + b, 0);
    return {
      lowRank: beyond / all,
      adaptive: withCounts(ada, true),
      unrefined: withCounts(ada, false),
      even: withCounts(even, true),
      drawn: withCounts(even, true, true),
      loftq: share(subtract(subtract(w, base), low)),
    };
  }

  /** Shares of |R·Eᵀ|² left in the reference trial, and the margin that it is reproduced with. */
  const within = (share: number, [low, high]: readonly [number, number]): void => {
    expect(share).toBeGreaterThan(low - 0.05);
    expect(share).toBeLessThan(high + 0.05);
  };

  test("rows of unequal scale: each part of the start is worth its place", () => {
    const found = trial(true);
    within(found.adaptive, [0.25, 0.28]);
    within(found.unrefined, [0.38, 0.4]);
    within(found.even, [0.36, 0.38]);
    within(found.drawn, [0.62, 0.65]);
    within(found.loftq, [0.54, 0.6]);
    within(found.lowRank, [0.45, 0.49]);
    const { adaptive, even, unrefined, lowRank, loftq, drawn } = found;
    for (const other of [even, unrefined]) expect(adaptive).toBeLessThan(other - 0.05);
    for (const other of [even, unrefined]) expect(other).toBeLessThan(lowRank - 0.05);
    expect(lowRank).toBeLessThan(loftq - 0.05);
    expect(loftq).toBeLessThan(drawn - 0.05);
  });

  test("rows of equal scale: adaptive counts are even ones, still below LoftQ", () => {
    const found = trial(false);
    within(found.adaptive, [0.37, 0.37]);
    within(found.loftq, [0.69, 0.69]);
    expect(Math.abs(found.adaptive - found.even)).toBeLessThan(0.02);
    expect(found.adaptive).toBeLessThan(found.loftq - 0.05);
  });
});
