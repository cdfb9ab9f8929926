import { PeftError } from "../errors.ts";
import { type Ldu, ldu } from "./lu.ts";
import { type Matrix, matrix } from "./matrix.ts";
import { type Qr, qr } from "./qr.ts";
import { type Svd, svd } from "./svd.ts";
import { type SymmetricEigen, symmetricEigen } from "./symmetric-eigen.ts";

/** A decomposition as a list of matrices: what travels between threads and lies in the cache. */
interface Operation<Result> {
  readonly pack: (a: Matrix) => Matrix[];
  readonly unpack: (parts: readonly Matrix[]) => Result;
}

const row = (values: ArrayLike<number>): Matrix => matrix(1, values.length, values);

function part(parts: readonly Matrix[], index: number): Matrix {
  const found = parts[index];
  if (!found) throw new PeftError("MATRIX_CACHE", `expected at least ${index + 1} matrices, received ${parts.length}.`);
  return found;
}

const operation = <Result>(
  work: (a: Matrix) => Result,
  pack: (result: Result) => Matrix[],
  unpack: (at: (index: number) => Matrix) => Result,
): Operation<Result> => ({
  pack: (a) => pack(work(a)),
  unpack: (parts) => unpack((index) => part(parts, index)),
});

/** Decompositions that are worth a thread of their own. */
export const operations = {
  svd: operation<Svd>(
    svd,
    ({ u, s, vt }) => [u, row(s), vt],
    (at) => ({ u: at(0), s: at(1).data, vt: at(2) }),
  ),
  qr: operation<Qr>(
    (a) => qr(a),
    ({ q, r }) => [q, r],
    (at) => ({ q: at(0), r: at(1) }),
  ),
  ldu: operation<Ldu>(
    ldu,
    ({ permutation, l, d, u }) => [row(permutation), l, row(d), u],
    (at) => ({ permutation: Int32Array.from(at(0).data), l: at(1), d: at(2).data, u: at(3) }),
  ),
  symmetricEigen: operation<SymmetricEigen>(
    symmetricEigen,
    ({ values, vectors }) => [row(values), vectors],
    (at) => ({ values: at(0).data, vectors: at(1) }),
  ),
} as const;

export type OperationName = keyof typeof operations;

/** What an operation gives. */
export type OperationResult<Name extends OperationName> = ReturnType<(typeof operations)[Name]["unpack"]>;
