import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { type AttributeInput, float } from "../graph/attributes.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { type CheckedInput, checkGradient } from "../testing/check-gradient.ts";
import { checkShapes } from "../testing/check-shapes.ts";

type Attributes = Record<string, AttributeInput>;

const attend =
  (attributes: Attributes = {}, slots: readonly number[] = [0, 1, 2], shown: readonly number[] = [0]) =>
  (g: Builder, values: Value[]): Value[] => {
    const inputs = Array.from({ length: 7 }, (_, i) => (slots.includes(i) ? values[slots.indexOf(i)]! : null));
    const outputs = g.op("Attention", inputs, attributes, { count: 1 + Math.max(...shown) });
    return shown.map((i) => outputs[i]!);
  };

const [batch, queries, keys, size] = [2, 3, 4, 2];
const heads = (count: number, tokens: number, width = size): CheckedInput => ({
  dims: [batch, count, tokens, width],
  fixedAxes: [1, 3],
});
const folded = (count: number, tokens: number, width = size): CheckedInput => ({
  dims: [batch, tokens, count * width],
  fixedAxes: [2],
});
/** Different axes of Q, K and V that must be equal would be undecided with distinct symbols. */
const options = { opset: 23, symbolic: ["shared"], directions: 1 } as const;
const bools = (dims: readonly number[], data: readonly number[]): CheckedInput => ({ dims, data, type: "bool" });

describe("Attention", () => {
  test("four axes, three axes, another value size", async () => {
    await checkGradient(attend(), [heads(2, queries), heads(2, keys), heads(2, keys, 3)], options);
    await checkGradient(attend(), [heads(2, queries), heads(2, keys), heads(2, keys)], { ...options, opset: 24 });
    const attributes = { q_num_heads: 2, kv_num_heads: 2 };
    await checkGradient(attend(attributes), [folded(2, queries), folded(2, keys), folded(2, keys)], options);
  });

  test("grouped and single key heads", async () => {
    await checkGradient(attend(), [heads(4, queries), heads(2, keys), heads(2, keys)], options);
    const attributes = { q_num_heads: 4, kv_num_heads: 1 };
    const inputs = [folded(4, queries), folded(1, keys), folded(1, keys)];
    await checkGradient(attend(attributes), inputs, options);
    await checkGradient(attend(attributes), [inputs[0]!, { ...inputs[1]!, frozen: true }, inputs[2]!], options);
  });

  test("scale, softcap, causal", async () => {
    const square = [heads(2, 4), heads(2, 4), heads(2, 4)];
    await checkGradient(attend({ is_causal: 1, scale: float(0.7), softcap: float(0.5) }), square, options);
    await checkGradient(attend({ is_causal: 1 }), [heads(2, queries), heads(2, keys), heads(2, keys)], options);
  });

  test("masks: added, boolean, with a query that sees nothing", async () => {
    const inputs = [heads(2, queries), heads(2, keys), heads(2, keys)];
    const slots = [0, 1, 2, 3];
    await checkGradient(attend({}, slots), [...inputs, { dims: [batch, 1, queries, keys] }], options);
    await checkGradient(attend({}, slots), [...inputs, { dims: [queries, keys] }], options);
    const some = [1, 1, -1, 1, 1, -1, -1, 1, -1, 1, 1, 1];
    await checkGradient(attend({}, slots), [...inputs, bools([queries, keys], some)], options);
    const none = [1, 1, -1, 1, -1, -1, -1, -1, -1, 1, 1, 1];
    await checkGradient(attend({}, slots), [...inputs, bools([queries, keys], none)], options);
    // ONNX Runtime does not broadcast a mask along the queries.
    const padding = bools([batch, 1, queries, keys], [...[0, 1, 2].flatMap(() => [1, 1, 1, -1]), ...Array(12).fill(1)]);
    await checkGradient(attend({ is_causal: 1 }, slots), [...inputs, padding], options);
  });

  test("past keys and values, and the joined ones as outputs", async () => {
    const past = (width = size): CheckedInput => ({ dims: [batch, 2, 5, width], fixedAxes: [1, 3] });
    const inputs = [heads(4, queries), heads(2, queries), heads(2, queries), past(), past()];
    await checkGradient(attend({}, [0, 1, 2, 4, 5], [0, 1, 2]), inputs, options);
    await checkGradient(attend({ is_causal: 1 }, [0, 1, 2, 4, 5], [0, 1, 2]), inputs, options);
  });

  test.each([0, 1, 2, 3])("the scores as output, mode %d", async (mode) => {
    const inputs = [heads(2, queries), heads(2, keys), heads(2, keys), { dims: [queries, keys] }];
    const attributes = { qk_matmul_output_mode: mode, softcap: float(0.8) };
    await checkGradient(attend(attributes, [0, 1, 2, 3], [0, 3]), inputs, options);
  });

  test("numbers of valid keys", async () => {
    const lengths: CheckedInput = { dims: [batch], type: "int64", data: [4, 2] };
    const inputs = [heads(2, queries), heads(2, keys), heads(2, keys), lengths];
    await checkGradient(attend({}, [0, 1, 2, 6]), inputs, { ...options, opset: 24 });
  });

  test("shapes", async () => {
    const inputs = [folded(4, queries), folded(2, keys), folded(2, keys)];
    await checkShapes(attend({ q_num_heads: 4, kv_num_heads: 2 }, [0, 1, 2], [0, 1, 2, 3]), inputs, 23);
  });
});

describe("RotaryEmbedding", () => {
  const caches = (rows: number, half: number): CheckedInput[] => [
    { dims: [rows, half], constant: true },
    { dims: [rows, half], constant: true },
  ];
  const rotate =
    (attributes: Attributes, positions = true) =>
    (g: Builder, [x, cos, sin, ids]: Value[]): Value =>
      g.op("RotaryEmbedding", [x!, cos!, sin!, positions ? ids! : null], attributes)[0]!;
  const ids: CheckedInput = { dims: [2, 3], type: "int64", data: [0, 1, 2, 4, 3, 2] };

  test.each([0, 1])("interleaved %d: four axes, three axes, part of the head", async (interleaved) => {
    const four = { dims: [2, 2, 3, 8] };
    await checkGradient(rotate({ interleaved }), [four, ...caches(5, 4), ids], { opset: 23 });
    const three = { dims: [2, 3, 16] };
    await checkGradient(rotate({ interleaved, num_heads: 2 }), [three, ...caches(5, 4), ids], { opset: 23 });
    const partial = { interleaved, rotary_embedding_dim: 4, num_heads: 2 };
    await checkGradient(rotate(partial), [three, ...caches(5, 2), ids], { opset: 24 });
  });

  test("angles per token, without positions", async () => {
    const angles = { dims: [2, 3, 4], constant: true };
    await checkGradient(rotate({}, false), [{ dims: [2, 2, 3, 8] }, angles, angles], { opset: 23 });
  });

  test("trained angles are refused", () => {
    const g = createBuilder(23);
    const [x, cos, sin] = [
      [1, 2, 3, 4],
      [1, 3, 2],
      [1, 3, 2],
    ].map((dims, i) => g.input(`x${i}`, "float32", dims));
    const [y] = g.op("RotaryEmbedding", [x!, cos!, sin!]);
    expect(() => differentiate(g, [{ value: g.reduceSum(y!, [0, 1, 2, 3], false) }], [cos!])).toThrow(/angles/);
  });
});
