import { expect, test } from "vitest";
import type { SiteShape } from "../adapters/site.ts";
import { type Matrix, matrix, multiply, scaleColumns } from "../linalg/matrix.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { frod } from "./frod.ts";
import { categoriesOf, categoryOf, drawPlaces, inBasis, sharedBasis } from "./frod-basis.ts";

const random = testRandom(41);
const drawn = (rows: number, columns: number): Matrix =>
  matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => random() * 2 - 1),
  );

test.each([
  ["more rows than columns", [8, 6, 9], 5],
  ["together as many as columns", [3, 3], 6],
  ["fewer", [2, 3], 7],
])("weights in the shared basis: %s", (_, rows, width) => {
  const weights = rows.map((n) => drawn(n, width));
  const basis = sharedBasis(weights, 1e-3);
  for (const weight of weights) {
    const { U, lengths } = inBasis(weight, basis);
    const again = multiply(scaleColumns(U, lengths), basis, { transB: true });
    again.data.forEach((v, i) => {
      expect(v).toBeCloseTo(weight.data[i]!, 8);
    });
    for (let k = 0; k < width; k++) {
      let sum = 0;
      for (let i = 0; i < U.rows; i++) sum += U.data[i * width + k]! ** 2;
      expect(sum < 1e-12 ? 1 : sum).toBeCloseTo(1, 8);
    }
  }
});

test("columns that two weights share in a basis are as orthogonal as they can be together", () => {
  const weights = [drawn(8, 5), drawn(7, 5)];
  const basis = sharedBasis(weights, 1e-3);
  // The eigenvectors diagonalise the mean of two inverses, and with A + B = I that is both of them.
  for (const weight of weights) {
    const { U } = inBasis(weight, basis);
    const products = multiply(U, U, { transA: true });
    products.data.forEach((v, i) => {
      expect(v).toBeCloseTo(i % 6 === 0 ? 1 : 0, 6);
    });
  }
});

test("kinds of modules, by the last parts of their paths", () => {
  const of = (name: string): string => categoryOf({ name });
  expect(of("bert.encoder.layer.0.attention.self.query")).toBe("self_query");
  expect(of("model.layers.3.self_attn.q_proj")).toBe("self_attn_q_proj");
  expect(of("bert.encoder.layer.1.attention.output.dense")).toBe("attention_output");
  expect(of("bert.encoder.layer.1.output.dense")).toBe("output_dense");
  expect(of("layers.4.up")).toBe("up");
  expect(of("0.up")).toBe("up");
  expect(of("classifier")).toBe("classifier");
  const site = (name: string, inFeatures: number): SiteShape => ({
    ...{ name, kind: "linear", inFeatures, outFeatures: 4, weightShape: [4, inFeatures], hasBias: true },
  });
  expect([...categoriesOf([site("b.1.up", 8), site("a.0.down", 6), site("b.2.up", 8)]).keys()]).toEqual(["down", "up"]);
  expect(() => categoriesOf([site("b.1.up", 8), site("b.2.up", 6)])).toThrow(
    expect.objectContaining({ code: "CONFIG_INVALID", message: expect.stringContaining("8 and 6") }),
  );
});

test("places lie outside the diagonal, each once", () => {
  const [all, some] = drawPlaces(
    [
      { width: 4, count: 12 },
      { width: 9, count: 20 },
    ],
    7,
  );
  const pairs = (places: Float32Array): string[] => {
    const count = places.length / 2;
    return Array.from({ length: count }, (_, i) => `${places[i]} ${places[count + i]}`);
  };
  expect(new Set(pairs(all!)).size).toBe(12);
  expect(new Set(pairs(some!)).size).toBe(20);
  for (const pair of [...pairs(all!), ...pairs(some!)]) {
    const [row, column] = pair.split(" ");
    expect(row).not.toBe(column);
  }
});

test("files without the basis are refused", () => {
  expect(() => frod.config.parse({ saveProjection: false })).toThrow();
});
