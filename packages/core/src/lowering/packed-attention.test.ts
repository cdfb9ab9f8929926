import { describe, expect, test } from "vitest";
import type { RuntimeTensor } from "../runtime/runtime.ts";
import { checkFormula, type Formula } from "./testing/check-lowering.ts";

/** {@link checkFormula} as the body of a test. */
const holds = async (...given: Parameters<typeof checkFormula>): Promise<void> => {
  await checkFormula(...given);
};

/** Three rows of four tokens, of which 1, 2 and 4 are real: the example of the operators' documentation. */
const lengths = [1, 2, 4];
const [batch, tokens, count] = [3, 4, 7];
const offsets = [0, 4, 5, 8, 9, 10, 11, 1, 2, 3, 6, 7];
const sums = [0, 1, 3, 7];
const heads = 2;

const numbers = (tensor: RuntimeTensor | null | undefined): number[] => Array.from(tensor?.data ?? [], Number);
const float = (dims: readonly number[], data: readonly number[]): RuntimeTensor => ({
  ...{ type: "float32", dims },
  data: Float32Array.from(data),
});

/** Attention of each row over its own real tokens; q, k [count, heads * width], v [count, heads * value width]. */
function attend(q: number[], k: number[], v: number[], bias: RuntimeTensor | null, scale?: number): RuntimeTensor {
  const [width, valueWidth] = [q.length / count / heads, v.length / count / heads];
  const y = new Array<number>(count * heads * valueWidth).fill(0);
  const given = numbers(bias);
  for (let row = 0; row < batch; row++) {
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < lengths[row]!; i++) {
        const scores = Array.from({ length: lengths[row]! }, (_, j) => {
          let score = 0;
          for (let d = 0; d < width; d++)
            score +=
              q[((sums[row]! + i) * heads + head) * width + d]! * k[((sums[row]! + j) * heads + head) * width + d]!;
          const at = bias ? (((bias.dims[0] === 1 ? 0 : row) * heads + head) * tokens + i) * tokens + j : 0;
          return score * (scale ?? 1 / Math.sqrt(width)) + (bias ? given[at]! : 0);
        });
        const total = scores.reduce((s, x) => s + Math.exp(x), 0);
        for (const [j, score] of scores.entries())
          for (let d = 0; d < valueWidth; d++)
            y[((sums[row]! + i) * heads + head) * valueWidth + d]! +=
              (Math.exp(score) / total) * v[((sums[row]! + j) * heads + head) * valueWidth + d]!;
      }
    }
  }
  return float([count, heads * valueWidth], y);
}

/** x [count, from] by w [from, to] plus b. */
function linear(x: number[], w: number[], b: number[]): number[] {
  const [to, from] = [b.length, w.length / b.length];
  return Array.from({ length: count * to }, (_, i) => {
    let sum = b[i % to]!;
    for (let d = 0; d < from; d++) sum += x[Math.floor(i / to) * from + d]! * w[d * to + (i % to)]!;
    return sum;
  });
}

/** Columns `start` to `end` of [count, width]. */
const columns = (x: number[], width: number, start: number, end: number): number[] =>
  x.filter((_, i) => i % width >= start && i % width < end);

const places = { dims: [batch, tokens], type: "int32", data: offsets } as const;
const running = { dims: [batch + 1], type: "int32", data: sums } as const;

describe("PackedAttention", () => {
  const formula =
    (sizes: readonly number[], scale?: number): Formula =>
    ([x, w, b, , , bias]) => {
      const all = sizes.reduce((p, q) => p + q, 0);
      const product = linear(numbers(x), numbers(w), numbers(b));
      const part = (i: number): number[] => {
        const start = sizes.slice(0, i).reduce((p, q) => p + q, 0);
        return columns(product, all, start, start + sizes[i]!);
      };
      return [attend(part(0), part(1), part(2), bias ?? null, scale)];
    };

  test.each([{ sizes: [4, 4, 4] }, { sizes: [4, 4, 6] }])("sizes $sizes", ({ sizes }) =>
    holds(
      {
        op: "PackedAttention",
        inputs: [
          { dims: [count, 5] },
          { dims: [5, sizes.reduce((p, q) => p + q, 0)] },
          { dims: [sizes.reduce((p, q) => p + q, 0)] },
          places,
          running,
        ],
        attributes: { num_heads: heads, ...(sizes[2] === 4 ? {} : { qkv_hidden_sizes: sizes }) },
        outputs: [{ rank: 2 }],
      },
      formula(sizes),
    ),
  );

  test.each([1, batch])("a bias of the scores for %d rows, and a scale", (rows) =>
    holds(
      {
        op: "PackedAttention",
        inputs: [
          { dims: [count, 5] },
          { dims: [5, 12] },
          { dims: [12] },
          places,
          running,
          { dims: [rows, heads, tokens, tokens] },
        ],
        attributes: { num_heads: heads, scale: { type: "float", value: 0.3 } },
        outputs: [{ rank: 2 }],
      },
      formula([4, 4, 4], 0.3),
    ),
  );
});

describe("PackedMultiHeadAttention", () => {
  const biased = (x: number[], b: number[]): number[] => x.map((v, i) => v + (b.length > 0 ? b[i % b.length]! : 0));

  test.each([{ bias: false }, { bias: true }])("query, key and value, bias $bias", ({ bias }) =>
    holds(
      {
        op: "PackedMultiHeadAttention",
        inputs: [
          { dims: [count, 4] },
          { dims: [count, 4] },
          { dims: [count, 6] },
          bias ? { dims: [14] } : null,
          places,
          running,
        ],
        attributes: { num_heads: heads },
        outputs: [{ rank: 2 }],
      },
      ([q, k, v, b]) => {
        const all = numbers(b);
        return [
          attend(
            biased(numbers(q), all.slice(0, 4)),
            biased(numbers(k), all.slice(4, 8)),
            biased(numbers(v), all.slice(8)),
            null,
          ),
        ];
      },
    ),
  );

  test("one packed query", () =>
    holds(
      {
        op: "PackedMultiHeadAttention",
        inputs: [{ dims: [count, heads, 3, 2] }, null, null, { dims: [12] }, places, running],
        attributes: { num_heads: heads },
        outputs: [{ rank: 2 }],
      },
      ([packed, , , b]) => {
        const [all, bias] = [numbers(packed), numbers(b)];
        const part = (i: number): number[] => {
          const own = all.filter((_, at) => Math.floor(at / 2) % 3 === i);
          return biased(own, bias.slice(4 * i, 4 * i + 4));
        };
        return [attend(part(0), part(1), part(2), null)];
      },
    ));
});

describe("padding", () => {
  test("RemovePadding", async () => {
    const spec = {
      op: "RemovePadding",
      inputs: [{ dims: [batch, tokens, 3] }, { dims: [batch], type: "int32", data: lengths } as const],
      outputs: [
        { rank: 2 },
        { type: "int32", rank: 2 },
        { type: "int32", rank: 1 },
        { type: "int32", rank: 1 },
      ] as const,
    };
    const int = (dims: readonly number[], data: readonly number[]): RuntimeTensor => ({
      type: "int32",
      dims,
      data: Int32Array.from(data),
    });
    const lowered = await checkFormula(spec, ([x]) => [
      float(
        [count, 3],
        offsets.slice(0, count).flatMap((row) => numbers(x).slice(3 * row, 3 * row + 3)),
      ),
      int([batch, tokens], offsets),
      int([batch + 1], sums),
      int([1], [4]),
    ]);
    expect(lowered.graph.nodes.map((n) => n.domain)).not.toContain("com.microsoft");
  });

  test("RestorePadding", () =>
    holds({ op: "RestorePadding", inputs: [{ dims: [count, 3] }, places], outputs: [{ rank: 3 }] }, ([x]) => {
      const y = new Array<number>(batch * tokens * 3).fill(0);
      numbers(x).forEach((v, i) => {
        y[offsets[Math.floor(i / 3)]! * 3 + (i % 3)] = v;
      });
      return [float([batch, tokens, 3], y)];
    }));
});
