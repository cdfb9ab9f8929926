import { describe, expect, test } from "vitest";
import { minimize } from "./lbfgs.ts";
import { fitLogisticRegression } from "./logistic-regression.ts";
import { fitTfIdf } from "./tf-idf.ts";
import { tfIdfBaseline } from "./tf-idf-baseline.ts";

const texts = [
  "a dog is a dog",
  "the cat sat on a mat",
  "a mat for the cat",
  "dogs and cats",
  "the dog sat",
  "Élan vital, a force",
];
const near = (x: number) => expect.closeTo(x, 9);

describe("golden numbers of scikit-learn 1.9.1", () => {
  test.each([
    [1, 15, [0.5062632429351297, 0.699766878682879, 0.5040077820343914]],
    [2, 32, [0.3385433518590328, 0.46794119054697103, 0.3370351023386923]],
  ] as const)("TfidfVectorizer, n-grams up to %i", (ngrams, columns, expected) => {
    const { terms, transform } = fitTfIdf(texts, { ngrams });
    const { columnIds, values, rowStarts } = transform(texts);
    expect(terms).toHaveLength(columns);
    const first = new Map([...columnIds.subarray(0, rowStarts[1])].map((column, i) => [terms[column], values[i]]));
    expect(["a", "dog", "is"].map((term) => first.get(term))).toEqual(expected.map(near));
  });

  test("LogisticRegression(C=10)", () => {
    const { terms, transform } = fitTfIdf(texts);
    const data = transform(texts);
    const model = fitLogisticRegression(data, Int32Array.from([0, 1, 1, 2, 0, 2]), 3, { c: 10, tolerance: 1e-10 });
    expect(model.converged).toBe(true);
    const close = (x: number) => expect.closeTo(x, 6);
    expect([...model.weights.subarray(-3)]).toEqual(
      [-0.10696473042071082, -0.2872340611434275, 0.3941987915641353].map(close),
    );
    const dog = 3 * terms.indexOf("dog");
    expect([...model.weights.subarray(dog, dog + 3)]).toEqual(
      [1.994944577038886, -1.0316677815141628, -0.9632767955247236].map(close),
    );
    expect([...model.predict(transform(["a cat and a dog", "cat", "élan", "words never seen"]))]).toEqual([0, 1, 2, 2]);
  });
});

test("minimize finds the minimum of an ill-conditioned quadratic and leaves its start alone", () => {
  const scales = [1, 10, 1000];
  const start = new Float64Array(3).fill(5);
  const { x, converged, iterations } = minimize(
    (at, gradient) => {
      scales.forEach((s, i) => {
        gradient[i] = s * (at[i]! - i);
      });
      return scales.reduce((sum, s, i) => sum + (s / 2) * (at[i]! - i) ** 2, 0);
    },
    start,
    { tolerance: 1e-9, maxIterations: 100 },
  );
  expect(converged).toBe(true);
  expect(iterations).toBeLessThan(40);
  expect([...x]).toEqual([0, 1, 2].map(near));
  expect([...start]).toEqual([5, 5, 5]);
  const square = (at: Float64Array, gradient: Float64Array): number => {
    gradient[0] = 2 * at[0]!;
    return at[0]! ** 2;
  };
  expect(minimize(square, Float64Array.of(5), { tolerance: 1e-9, maxIterations: 1 }).converged).toBe(false);
});

test("the baseline chooses C on the validation split and learns", () => {
  const rows = (n: number, offset: number) =>
    Array.from({ length: n }, (_, i) => ({
      text: `${i % 2 ? "fur and paws" : "leaves and roots"} ${i + offset}`,
      label: i % 2 ? "animal" : "plant",
    }));
  const data = { labels: ["animal", "plant"], train: rows(40, 0), validation: rows(10, 100), test: rows(20, 200) };
  const result = tfIdfBaseline(data, { cs: [1e-9, 1] });
  expect(result).toMatchObject({ testAccuracy: 1, validationAccuracy: 1 });
  expect(result.trainableParameters).toBe(2 * (45 + 1)); // 5 words and 40 numbers
  expect([...result.predictions.subarray(0, 4)]).toEqual([1, 0, 1, 0]);
});
