import { expect, test } from "vitest";
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./half.ts";

const everyPattern = Uint16Array.from({ length: 65536 }, (_, i) => i);
const isNaN16 = (h: number, exponentMask: number, mantissaMask: number): boolean =>
  (h & exponentMask) === exponentMask && (h & mantissaMask) !== 0;

test("every float16 survives the way to float32 and back, and has the value of the formula", () => {
  const floats = float16ToFloat32(everyPattern);
  const back = float32ToFloat16(floats);
  for (let h = 0; h < 65536; h++) {
    if (isNaN16(h, 0x7c00, 0x3ff)) {
      expect(floats[h]).toBeNaN();
      continue;
    }
    if (back[h] !== h) throw new Error(`${h} became ${back[h]}`);
    const exponent = (h >> 10) & 31;
    const mantissa = h & 0x3ff;
    const magnitude =
      exponent === 31 ? Infinity : exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
    if (Math.abs(floats[h]!) !== magnitude) throw new Error(`${h}: ${floats[h]} instead of ${magnitude}`);
  }
});

test("float16 rounds to nearest, ties to even", () => {
  const cases: [number, number][] = [
    [1 + 2 ** -11, 1], // halfway between 1 and 1 + 2^-10: to even
    [1 + 3 * 2 ** -11, 1 + 2 ** -9],
    [1 + 2 ** -11 + 2 ** -20, 1 + 2 ** -10],
    [65519.99, 65504],
    [65520, Infinity],
    [-1e9, -Infinity],
    [2 ** -25, 0], // halfway to the smallest subnormal: to even
    [2 ** -25 * 1.001, 2 ** -24],
    [3 * 2 ** -25, 2 ** -23],
    [2 ** -14 - 2 ** -26, 2 ** -14],
  ];
  const result = float16ToFloat32(float32ToFloat16(Float32Array.from(cases, ([input]) => input)));
  expect(Array.from(result)).toEqual(cases.map(([, expected]) => expected));
  expect(float16ToFloat32(float32ToFloat16(new Float32Array([Number.NaN])))[0]).toBeNaN();
  expect(Object.is(float16ToFloat32(float32ToFloat16(new Float32Array([-0])))[0], -0)).toBe(true);
});

test("every bfloat16 survives, and rounding is to nearest, ties to even", () => {
  const back = float32ToBfloat16(bfloat16ToFloat32(everyPattern));
  for (let h = 0; h < 65536; h++)
    if (!isNaN16(h, 0x7f80, 0x7f) && back[h] !== h) throw new Error(`${h} became ${back[h]}`);
  const round = (x: number): number => bfloat16ToFloat32(float32ToBfloat16(new Float32Array([x])))[0]!;
  expect(round(1 + 2 ** -8)).toBe(1);
  expect(round(1 + 3 * 2 ** -8)).toBe(1 + 2 ** -6);
  expect(round(3.4e38)).toBe(Infinity);
  expect(round(Number.NaN)).toBeNaN();
});
