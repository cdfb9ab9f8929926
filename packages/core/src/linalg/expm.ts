import { solve } from "./lu.ts";
import { add, identity, type Matrix, matrix, multiply, scale, subtract } from "./matrix.ts";
import { checkFinite, checkSquare } from "./measure.ts";

/** Numerator of the [13/13] Padé approximant of exp: (26 - i)! 13! / (26! i! (13 - i)!), times a common factor. */
const pade = [
  64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
  670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
];
/** Up to this norm the approximant is exact to double precision. */
const largestNorm = 5.371920351148152;

const columnSumNorm = ({ rows, columns, data }: Matrix): number => {
  let largest = 0;
  for (let j = 0; j < columns; j++) {
    let sum = 0;
    for (let i = 0; i < rows; i++) sum += Math.abs(data[i * columns + j] as number);
    largest = Math.max(largest, sum);
  }
  return largest;
};

/** Sum of coefficients times even powers; entry i of `coefficients` goes with powers[i]. */
const polynomial = (powers: readonly Matrix[], coefficients: readonly number[]): Matrix =>
  powers.reduce(
    (sum, power, i) => add(sum, scale(power, coefficients[i] ?? 0)),
    matrix(powers[0]?.rows ?? 0, powers[0]?.columns ?? 0),
  );

/**
 * Matrix exponential by scaling and squaring with the [13/13] Padé approximant. Higham 2005, "The scaling and squaring method for the
 * matrix exponential revisited".
 * @throws PeftError SHAPE_MISMATCH, MATRIX_NOT_FINITE
 * @example
 * expm(matrix(1, 1, [1])).data[0]; // 2.718281828459045
 */
export function expm(a: Matrix): Matrix {
  checkSquare(a, "expm");
  checkFinite(a, "expm");
  const norm = columnSumNorm(a);
  const squarings = norm > largestNorm ? Math.ceil(Math.log2(norm / largestNorm)) : 0;
  const x = scale(a, 2 ** -squarings);
  const one = identity(a.rows);
  const x2 = multiply(x, x);
  const x4 = multiply(x2, x2);
  const x6 = multiply(x4, x2);
  const powers = [one, x2, x4, x6];
  const at = (...indices: number[]): number[] => indices.map((i) => pade[i] as number);
  const odd = multiply(
    x,
    add(multiply(x6, polynomial([x2, x4, x6], at(9, 11, 13))), polynomial(powers, at(1, 3, 5, 7))),
  );
  const even = add(multiply(x6, polynomial([x2, x4, x6], at(8, 10, 12))), polynomial(powers, at(0, 2, 4, 6)));
  let result = solve(subtract(even, odd), add(even, odd));
  for (let i = 0; i < squarings; i++) result = multiply(result, result);
  return result;
}
