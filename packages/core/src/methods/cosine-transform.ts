import type { Builder } from "../graph/builder.ts";
import { dctMatrix } from "../linalg/dct.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { fold, mirrorAtMiddle, unfold } from "./mirrored.ts";

/** Rows of the cosine matrix of a size, one initialiser for all modules: all, or those of every other frequency over half the axis. */
function table(g: Builder, n: number, rows: "all" | "even" | "odd"): Value {
  const name = `dct:${n}:${rows}`;
  if (g.has(name)) return g.value(name);
  const { data } = dctMatrix(n);
  if (rows === "all") return g.initializer(name, tensorFrom("float32", [n, n], data));
  const half = n / 2;
  const values = Float32Array.from({ length: half * half }, (_, at) => {
    const frequency = 2 * Math.floor(at / half) + (rows === "odd" ? 1 : 0);
    return data[frequency * n + (at % half)] as number;
  });
  return g.initializer(name, tensorFrom("float32", [half, half], values));
}

/** Rows of even frequency are even about the middle, the others odd: two products of half the size each way. */
const isFolded = (n: number): boolean => n % 2 === 0;

/** The cosine matrix C [n, n] itself. */
export const cosineTable = (g: Builder, n: number): Value => table(g, n, "all");

/** Multiplications of {@link cosineTransform} of a row. */
export const cosineCost = (n: number): number => (isFolded(n) ? (n * n) / 2 : n * n);

/** x·Cᵀ along the last axis [..., n]. Coefficients stand in the order of {@link placeOfFrequency}. */
export function cosineTransform(g: Builder, x: Value, n: number): Value {
  if (!isFolded(n)) return g.fusedMatMul(x, table(g, n, "all"), { transB: true });
  const { even, odd } = fold(g, x, mirrorAtMiddle(n));
  const parts = [
    g.fusedMatMul(even, table(g, n, "even"), { transB: true }),
    g.fusedMatMul(odd, table(g, n, "odd"), { transB: true }),
  ];
  return g.concat(parts, -1);
}

/** z·C along the last axis, z in the order of {@link placeOfFrequency}: the inverse of {@link cosineTransform}. */
export function inverseCosineTransform(g: Builder, z: Value, n: number): Value {
  if (!isFolded(n)) return g.matMul(z, table(g, n, "all"));
  const [even, odd] = g.split(z, [n / 2, n / 2], -1) as [Value, Value];
  return unfold(g, g.matMul(even, table(g, n, "even")), g.matMul(odd, table(g, n, "odd")), mirrorAtMiddle(n));
}

/** Where a frequency stands among the coefficients: even ones first. @param frequency int64, any shape. */
export function placeOfFrequency(g: Builder, frequency: Value, n: number): Value {
  if (!isFolded(n)) return frequency;
  const halved = g.div(frequency, g.ints([2]));
  const isOdd = g.sub(frequency, g.mul(halved, g.ints([2])));
  return g.add(halved, g.mul(isOdd, g.ints([n / 2])));
}
