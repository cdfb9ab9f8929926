import type { Builder } from "../graph/builder.ts";
import { solve } from "../linalg/lu.ts";
import { add, identity, type Matrix, matrix, multiply, scale, subtract, transpose } from "../linalg/matrix.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";

/** Entries of the upper triangle of a [size, size] matrix, row by row. */
export const triangleSize = (size: number): number => (size * (size - 1)) / 2;

/** Place of entry (i, j), i < j, among those of the upper triangle. */
const triangleIndex = (i: number, j: number, size: number): number => i * size - (i * (i + 1)) / 2 + (j - i - 1);

/** Skew-symmetric matrix with the given upper triangle. */
export function skewMatrix(size: number, triangle: ArrayLike<number>): Matrix {
  const result = matrix(size, size);
  for (let i = 0; i < size; i++)
    for (let j = i + 1; j < size; j++) {
      const value = triangle[triangleIndex(i, j, size)] as number;
      result.data[i * size + j] = value;
      result.data[j * size + i] = -value;
    }
  return result;
}

/** [blocks, size (size - 1) / 2] as skew-symmetric matrices [blocks, size, size]: a Gather by a constant table, and signs. */
export function skewMatrices(g: Builder, triangles: Value, size: number): Value {
  const [places, signs] = [new Array<number>(size * size).fill(0), new Array<number>(size * size).fill(0)];
  for (let i = 0; i < size; i++)
    for (let j = i + 1; j < size; j++) {
      const place = triangleIndex(i, j, size);
      [places[i * size + j], places[j * size + i]] = [place, place];
      [signs[i * size + j], signs[j * size + i]] = [1, -1];
    }
  const gathered = g.gather(triangles, g.constant("int64", places, [size, size]), 1); // [blocks, size, size]
  return g.mul(gathered, g.constant("float32", signs, [size, size]));
}

/** The identity as a value. */
export const eye = (g: Builder, size: number): Value => {
  const name = `identity:${size}`;
  return g.has(name) ? g.value(name) : g.initializer(name, tensorFrom("float32", [size, size], identity(size).data));
};

/** Coefficients of I, Q, Q², ...: 1, 2, 2, ..., 2, 1; as in peft two terms are I + 2 Q, and three are four: Q³ always comes with Q². */
const neumannCoefficients = (terms: number): number[] => {
  const count = terms === 3 ? 4 : terms;
  return Array.from({ length: count }, (_, k) => (k === 0 || (k === count - 1 && count > 2) ? 1 : 2));
};

/** I + 2 Q + 2 Q² + ... + 2 Q^(n-2) + Q^(n-1): the Neumann series of (I + Q)(I - Q)^-1, cut after n terms (n = 3: after four). */
export function cayleyNeumann(q: Matrix, terms: number): Matrix {
  let [sum, power] = [identity(q.rows), identity(q.rows)];
  for (const coefficient of neumannCoefficients(terms).slice(1)) {
    power = multiply(power, q);
    sum = add(sum, scale(power, coefficient));
  }
  return sum;
}

/** {@link cayleyNeumann} of a batch of matrices. */
export function cayleyNeumannValue(g: Builder, q: Value, size: number, terms: number): Value {
  let [sum, power] = [eye(g, size), q];
  neumannCoefficients(terms)
    .slice(1)
    .forEach((coefficient, k) => {
      if (k > 0) power = g.matMul(power, q);
      sum = g.add(sum, coefficient === 1 ? power : g.mul(power, coefficient));
    });
  return sum;
}

/** (I - Q)(I + Q)^-1 */
export function cayley(q: Matrix): Matrix {
  const unit = identity(q.rows);
  // x·(I + Q) = I - Q, solved as (I + Q)ᵀ·xᵀ = (I - Q)ᵀ.
  return transpose(solve(transpose(add(unit, q)), transpose(subtract(unit, q))));
}

/** Newton steps for the inverse; the error is squared by each, and norms of Q up to some 10 are far more than training reaches. */
const NEWTON_STEPS = 12;

/**
 * (I - Q)(I + Q)^-1 of a batch of skew-symmetric matrices. ONNX has no inverse, so it is iterated, N <- N (2 I - M N) from
 * Mᵀ / (1 + |Q|²_F), which converges for every skew Q (M·Mᵀ = I + Q·Qᵀ has eigenvalues in [1, 1 + |Q|²_F]). Gradients do not go
 * through the iteration: one last step from the finished N, taken as a constant, has the derivative -N dM N of the inverse.
 */
export function cayleyValue(g: Builder, q: Value, size: number): Value {
  const unit = eye(g, size);
  const m = g.add(unit, q);
  const frozen = g.stopGradient(m);
  const norm = g.reduceSum(g.mul(g.stopGradient(q), g.stopGradient(q)), [1, 2]);
  let inverse = g.div(g.transpose(frozen, [0, 2, 1]), g.add(norm, 1));
  const step = (n: Value, of: Value): Value => g.matMul(n, g.sub(g.mul(unit, 2), g.matMul(of, n)));
  for (let i = 0; i < NEWTON_STEPS; i++) inverse = step(inverse, frozen);
  return g.matMul(g.sub(unit, q), step(g.stopGradient(inverse), m));
}
