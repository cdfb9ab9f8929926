import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { accuracy } from "./accuracy.ts";
import { confusionMatrix } from "./confusion-matrix.ts";
import { averageRanks, pearson, spearman } from "./correlation.ts";
import { f1Scores, multiLabelF1 } from "./f1.ts";
import { matthews } from "./matthews.ts";
import { meanReciprocalRank, recallAtK, targetRanks } from "./retrieval.ts";

/** Numbers that Python makes as well: x <- (1103515245 x + 12345) mod 2^31, the upper half modulo `below`. */
function congruential(count: number, below: number, seed: number): number[] {
  let x = BigInt(seed);
  return Array.from({ length: count }, () => {
    x = (x * 1103515245n + 12345n) % 2147483648n;
    return Number(x >> 16n) % below;
  });
}
const inputError = expect.objectContaining({ code: "METRIC_INPUT" });
const near = (value: number) => expect.closeTo(value, 12);

/** scikit-learn 1.9.1 and scipy 1.17.1 on the same numbers; two thirds of the predictions are right. */
describe("golden numbers of scikit-learn and scipy", () => {
  const labels = congruential(500, 5, 1);
  const other = congruential(500, 5, 2);
  const predictions = congruential(500, 10, 3).map((die, i) => (die < 6 ? labels[i]! : other[i]!));

  test("accuracy_score, confusion_matrix, matthews_corrcoef", () => {
    expect(accuracy(predictions, labels)).toBeCloseTo(0.666, 12);
    expect(matthews(predictions, labels)).toBeCloseTo(0.5826305745285343, 12);
    expect(confusionMatrix(predictions, labels)).toEqual([
      [65, 9, 17, 7, 4],
      [9, 72, 8, 6, 8],
      [10, 3, 66, 6, 10],
      [10, 10, 7, 58, 8],
      [7, 10, 9, 9, 72],
    ]);
  });

  test("precision_recall_fscore_support", () => {
    const { perClass, macro, micro, weighted } = f1Scores(predictions, labels);
    expect(perClass[1]).toEqual({
      precision: near(0.6923076923076923),
      recall: near(0.6990291262135923),
      f1: near(0.6956521739130435),
      support: 103,
    });
    expect(perClass[3]?.f1).toBeCloseTo(0.6480446927374302, 12);
    const triple = (s: typeof macro) => [s.precision, s.recall, s.f1];
    expect(triple(macro)).toEqual([0.6665990872484434, 0.6655147961039634, 0.6653103034332165].map(near));
    expect(triple(micro)).toEqual([0.666, 0.666, 0.666].map(near));
    expect(triple(weighted)).toEqual([0.667599459005027, 0.666, 0.666084446682058].map(near));
  });

  test("multi-label precision_recall_fscore_support", () => {
    const truth = congruential(400, 2, 6);
    const flips = congruential(400, 4, 7);
    const scores = multiLabelF1(
      truth.map((y, i) => (flips[i] === 0 ? 1 - y : y)),
      truth,
      4,
    );
    expect(scores.macro).toMatchObject({
      precision: near(0.7479085180356366),
      recall: near(0.7876999158249158),
      f1: near(0.7659353277060577),
    });
    expect(scores.micro).toMatchObject({
      precision: near(0.748792270531401),
      recall: near(0.7868020304568528),
      f1: near(0.7673267326732673),
    });
    expect(scores.weighted.f1).toBeCloseTo(0.7681290190325926, 12);
  });

  test("pearsonr and spearmanr, with ties", () => {
    const a = congruential(300, 50, 4);
    const noise = congruential(300, 60, 5);
    const b = a.map((x, i) => 2 * x + noise[i]!);
    expect(pearson(a, b)).toBeCloseTo(0.857268825437887, 12);
    expect(spearman(a, b)).toBeCloseTo(0.8595520916273676, 12);
  });

  test("top_k_accuracy_score and label_ranking_average_precision_score", () => {
    const retrieval = { scores: congruential(1000, 32768, 8), targets: congruential(40, 25, 9) };
    expect(recallAtK(retrieval, 1)).toBe(0);
    expect(recallAtK(retrieval, 5)).toBeCloseTo(0.2, 12);
    expect(meanReciprocalRank(retrieval)).toBeCloseTo(0.12463139415885412, 12);
  });
});

describe("by hand", () => {
  test("the examples of the doc comments", () => {
    expect(accuracy([0, 1, 1], [0, 0, 1])).toBe(2 / 3);
    expect(confusionMatrix([0, 1, 1], [0, 0, 1])).toEqual([
      [1, 1],
      [0, 1],
    ]);
    expect(f1Scores([0, 1, 1, 1], [0, 0, 1, 1]).macro.f1).toBe(0.7333333333333334); // (2/3 + 4/5) / 2
    expect(multiLabelF1([1, 0, 1, 1], [1, 0, 0, 1], 2).micro.f1).toBe(0.8);
    expect(matthews([1, 0, 1, 1], [1, 0, 0, 1])).toBe(0.5773502691896258); // 2·1 of sqrt(4·3)
    expect(pearson([1, 2, 3], [2, 4, 7])).toBe(0.9933992677987827); // 5 / sqrt(2 · 38/3)
    expect(spearman([1, 2, 3, 4], [1, 4, 4, 100])).toBe(0.9486832980505138);
    expect([...averageRanks([10, 20, 10])]).toEqual([1.5, 3, 1.5]);
    const retrieval = { scores: [0.9, 0.1, 0.8, 0.2], targets: [0, 1] };
    expect([...targetRanks(retrieval)]).toEqual([1, 2]);
    expect([recallAtK(retrieval, 1), recallAtK(retrieval, 2), meanReciprocalRank(retrieval)]).toEqual([0.5, 1, 0.75]);
  });

  test("classes without members or predictions count as 0, absent ones not at all", () => {
    const { perClass, macro, weighted } = f1Scores([0, 2, 0], [0, 0, 1], 4);
    expect(perClass.map((c) => c.f1)).toEqual([0.5, 0, 0, 0]);
    expect(macro.f1).toBeCloseTo(0.5 / 3, 12);
    expect(weighted.f1).toBeCloseTo(1 / 3, 12);
  });

  test("undefined correlations", () => {
    expect(matthews([0, 0], [0, 1])).toBe(0);
    expect(pearson([1, 1], [1, 2])).toBeNaN();
    expect(spearman([1, 2], [3, 3])).toBeNaN();
  });

  test("a constant score is no retrieval", () => {
    expect(recallAtK({ scores: [1, 1, 1, 1], targets: [0, 1] }, 1)).toBe(0);
  });
});

describe("wrong input is refused", () => {
  test.each([
    ["different lengths", () => accuracy([1], [1, 2])],
    ["nothing", () => accuracy([], [])],
    ["an ignored position", () => confusionMatrix([0], [-100])],
    ["an id beyond numLabels", () => f1Scores([2], [0], 2)],
    ["an id that would need a huge matrix", () => confusionMatrix([2 ** 31], [0])],
    ["a probability as a multi-label prediction", () => multiLabelF1([0.5], [1], 1)],
    ["ragged rows", () => multiLabelF1([1, 0, 1], [1, 0, 1], 2)],
    ["one value", () => pearson([1], [1])],
    ["NaN", () => spearman([1, Number.NaN], [1, 2])],
    ["NaN scores", () => recallAtK({ scores: [Number.NaN, 1], targets: [1] }, 1)],
    ["a target out of range", () => targetRanks({ scores: [1, 2], targets: [2] })],
    ["k of 0", () => recallAtK({ scores: [1], targets: [0] }, 0)],
  ])("%s", (_, run) => {
    expect(run).toThrow(inputError);
  });
});

describe("properties", () => {
  const pairs = fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 4 })), { minLength: 1 });

  test("micro F1 is accuracy, the matrix adds up, perfect predictions score 1", () => {
    fc.assert(
      fc.property(pairs, (rows) => {
        const [predictions, labels] = [rows.map((r) => r[0]), rows.map((r) => r[1])];
        expect(f1Scores(predictions, labels).micro.f1).toBeCloseTo(accuracy(predictions, labels), 12);
        expect(
          confusionMatrix(predictions, labels)
            .flat()
            .reduce((a, b) => a + b, 0),
        ).toBe(rows.length);
        expect(f1Scores(labels, labels).macro.f1).toBe(1);
        expect(matthews(predictions, labels)).toBeCloseTo(matthews(labels, predictions), 12);
        expect(matthews(labels, labels)).toBeCloseTo(new Set(labels).size > 1 ? 1 : 0, 12);
      }),
    );
  });

  test("Spearman sees only the order, Pearson neither scale nor offset", () => {
    const points = fc.array(fc.tuple(fc.integer({ min: -50, max: 50 }), fc.integer({ min: -50, max: 50 })), {
      minLength: 2,
    });
    fc.assert(
      fc.property(points, (rows) => {
        const [a, b] = [rows.map((r) => r[0]), rows.map((r) => r[1])];
        fc.pre(new Set(a).size > 1 && new Set(b).size > 1);
        expect(
          spearman(
            a.map((x) => x ** 3),
            b,
          ),
        ).toBeCloseTo(spearman(a, b), 10);
        expect(
          pearson(
            a.map((x) => 3 * x + 1000),
            b,
          ),
        ).toBeCloseTo(pearson(a, b), 10);
        expect(
          pearson(
            a,
            b.map((x) => -x),
          ),
        ).toBeCloseTo(-pearson(a, b), 10);
      }),
    );
  });
});
