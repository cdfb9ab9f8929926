import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { hadamard, iwht, wht } from "./hadamard.ts";
import { identity, type Matrix, matrixFrom, multiply } from "./matrix.ts";
import { largestDifference } from "./measure.ts";

/** SHA-256 of the published tables, row after row as "+" and "-" (QuaRot's and QWHA's code, read in 2026). */
const published: Record<number, string> = {
  "12": "e027244070138ccb47e17d12803fe848f5fd999b6356b047ef5912bc235f3500",
  "20": "fe417beb154e4a025f5681e45361076a11b563319f260d39e339c077c2c1e8de",
  "28": "875b595f85017a38e59a62702d330941052da02816a946c0aabe9c7999fb1aa5",
  "36": "ca2f600dadc9eef2be2f175699dc6a84f3bf2d827eceec94d8fb6e51b26152e7",
  "40": "f4f11581471d77d936720840ab39d86d66ec5432f57f26a0608a3f1ebddf42d2",
  "52": "45407bed337ae24539d0d7e3ee1bfc8ae03e8755999c074135dd3ee057f76fa0",
  "60": "134db0a162626c03430bbb587ffa201a8c4c52cec3db13548d18ca442ff3a6e0",
  "108": "483c19233287dea68b9745564f557554f9be3abc3b3824dbd88b8b86aca31d39",
  "140": "93ac93395665b9676512ee1efff1967efce35fbf55258a268bb6638fd1d13554",
  "156": "f1a893d61b8438fc2a421451bb507e24862ae847a5ba226310aeefb19b06c7ce",
  "172": "66cd19c8ae98afaf89df7699b232b24a5d6af15de96ed5a5ca8d84e68f2a38bb",
};

const scaled = (n: number): Matrix => matrixFrom(n, n, (i, j) => (i === j ? n : 0));
const some = (rows: number, columns: number): Matrix => matrixFrom(rows, columns, (i, j) => Math.sin(3 * i + j * j));

test.each(Object.keys(published).map(Number))("the matrix of order %i is the published one", (order) => {
  const text = Array.from(hadamard(order).data, (x) => (x === 1 ? "+" : x === -1 ? "-" : "?")).join("");
  expect(createHash("sha256").update(text).digest("hex")).toBe(published[order]);
});

test.each([1, 2, 4, 64, 12, 24, 20, 28, 36, 40, 80, 52, 60, 108, 140, 156, 172, 344])(
  "order %i: H Hᵀ = n I, and the transforms are products with H and its inverse",
  (n) => {
    const h = hadamard(n);
    expect(largestDifference(multiply(h, h, { transB: true }), scaled(n))).toBe(0);
    const rows = some(3, n);
    expect(largestDifference(wht(rows), multiply(rows, h, { transB: true }))).toBeLessThan(1e-12 * n);
    expect(largestDifference(iwht(wht(rows)), rows)).toBeLessThan(1e-13 * n);
  },
);

test("Sylvester's matrix in natural order", () => {
  expect([...hadamard(4).data]).toEqual([1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1]);
  expect(largestDifference(wht(identity(8)), hadamard(8))).toBe(0);
});

test.each([0, 3, 6, 10, 14, 44, 92, 1.5, -4, Number.NaN])("order %d has no table", (n) => {
  expect(() => hadamard(n)).toThrow(expect.objectContaining({ code: "HADAMARD_ORDER" }));
});
