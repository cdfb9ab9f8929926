import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { binaryCrossEntropy } from "./binary-cross-entropy.ts";
import { cosineEmbedding } from "./cosine-embedding.ts";
import { crossEntropy } from "./cross-entropy.ts";
import type { LossParts } from "./loss-parts.ts";
import { meanSquaredError } from "./mean-squared-error.ts";
import { multipleNegatives } from "./multiple-negatives.ts";
import { cosineSimilarity } from "./similarity.ts";
import { lossAndGradients } from "./testing/loss-and-gradients.ts";
import { triplet } from "./triplet.ts";

interface Case {
  readonly name: string;
  readonly loss: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly inputs: Readonly<Record<string, { dtype: "float32" | "int64"; shape: number[]; data: number[] }>>;
  readonly value: number;
  readonly gradients: Readonly<Record<string, number[]>>;
}

/** Values and gradients of PyTorch in float64: see parity/README.md. */
const { cases } = JSON.parse(
  readFileSync(new URL("../../../../parity/golden/losses.json", import.meta.url), "utf8"),
) as { cases: Case[] };

type Inputs = Readonly<Record<string, Value>>;
const of = (inputs: Inputs, name: string): Value => {
  const value = inputs[name];
  if (!value) throw new Error(`The case has no input "${name}".`);
  return value;
};

/** PyTorch's name and options of a loss, as ours. An option that is not read here fails the test. */
const losses: Readonly<Record<string, (g: Builder, inputs: Inputs, options: Options) => LossParts>> = {
  cross_entropy: (g, i, options) =>
    crossEntropy(
      g,
      { logits: of(i, "logits"), labels: of(i, "labels") },
      {
        ...options.map<number>("label_smoothing", "labelSmoothing"),
        ...options.map<number[]>("weight", "classWeights"),
        ...options.map<number>("ignore_index", "ignoreIndex"),
      },
    ),
  bce_with_logits: (g, i, options) =>
    binaryCrossEntropy(
      g,
      { logits: of(i, "logits"), labels: of(i, "labels") },
      options.map<number[]>("pos_weight", "posWeight"),
    ),
  mse: (g, i) => meanSquaredError(g, { predictions: of(i, "predictions"), labels: of(i, "labels") }),
  cosine_embedding: (g, i, options) =>
    cosineEmbedding(
      g,
      { first: of(i, "first"), second: of(i, "second"), labels: of(i, "labels") },
      options.map<number>("margin", "margin"),
    ),
  cosine_similarity_mse: (g, i) =>
    meanSquaredError(g, {
      predictions: cosineSimilarity(g, of(i, "first"), of(i, "second")),
      labels: of(i, "labels"),
    }),
  triplet_margin: (g, i, options) => {
    options.map("eps", "eps"); // 1e-6 in PyTorch and here
    return triplet(
      g,
      { anchors: of(i, "anchors"), positives: of(i, "positives"), negatives: of(i, "negatives") },
      {
        ...options.map<number>("margin", "margin"),
        ...options.map<"euclidean" | "cosine">("distance", "distance"),
      },
    );
  },
  multiple_negatives: (g, i, options) =>
    multipleNegatives(
      g,
      {
        anchors: of(i, "anchors"),
        positives: of(i, "positives"),
        ...(i["hard_negatives"] ? { hardNegatives: i["hard_negatives"] } : {}),
      },
      {
        ...options.map<number>("temperature", "temperature"),
        ...options.map<"cosine" | "dot">("similarity", "similarity"),
        ...options.map<boolean>("symmetric", "symmetric"),
      },
    ),
};

/** Options of a case, with a record of which were read. */
class Options {
  readonly unread: Set<string>;
  readonly #values: Case["options"];
  constructor(values: Case["options"]) {
    this.#values = values;
    this.unread = new Set(Object.keys(values));
  }
  map<T>(theirs: string, ours: string): Record<string, T> {
    this.unread.delete(theirs);
    return theirs in this.#values ? { [ours]: this.#values[theirs] as T } : {};
  }
}

/** Largest difference over the largest expected value: gradients near zero are compared with their neighbours. */
const difference = (found: readonly number[], expected: readonly number[]): number =>
  Math.max(...expected.map((v, i) => Math.abs(found[i]! - v))) / Math.max(...expected.map(Math.abs));

test("there are cases for every loss", () => {
  expect(new Set(cases.map((c) => c.loss))).toEqual(new Set(Object.keys(losses)));
  expect(cases.length).toBeGreaterThanOrEqual(25);
});

describe("equal to PyTorch's", () => {
  test.each(cases)("$name", async ({ loss, options, inputs, value, gradients }) => {
    const given = new Options(options);
    const reduction = given.map<string>("reduction", "reduction")["reduction"] ?? "mean";
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, { dtype, shape, data }]) => [
        name,
        { dims: shape, data, frozen: !(name in gradients), ...(dtype === "int64" ? { type: dtype } : {}) },
      ]),
    );
    const found = await lossAndGradients((g, values) => losses[loss]!(g, values, given), feeds);
    expect([...given.unread]).toEqual([]);
    // The engine keeps sum and weight apart; both reductions of PyTorch follow from them.
    const scale = reduction === "sum" ? found.weight : 1;
    expect(Math.abs(found.loss * scale - value)).toBeLessThan(2e-6 * Math.max(1, Math.abs(value)));
    for (const [name, expected] of Object.entries(gradients)) {
      const own = found.gradients[name]!.map((v) => v * scale);
      expect({ name, length: own.length }).toEqual({ name, length: expected.length });
      expect(difference(own, expected), name).toBeLessThan(1e-5);
    }
  });
});
