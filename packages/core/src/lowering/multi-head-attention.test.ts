import { describe, expect, test } from "vitest";
import { PeftError } from "../errors.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { lowerModel } from "./lower-model.ts";
import { checkLowering, compareModels } from "./testing/check-lowering.ts";
import { type FusedInput, fusedModel } from "./testing/fused-model.ts";

const [batch, tokens, keys, hidden, heads] = [2, 4, 6, 8, 2];
const width = hidden / heads;
const q: FusedInput = { dims: [batch, tokens, hidden], shape: ["batch", "tokens", hidden] };
const kv: FusedInput = { dims: [batch, keys, hidden], shape: ["batch", "keys", hidden] };
const bias: FusedInput = { dims: [3 * hidden], constant: true };
const mask = (dims: readonly number[], data: readonly number[]) => ({ dims, data, type: "int32" }) as const;
const run = (
  inputs: readonly (FusedInput | null)[],
  attributes: Record<string, number> = {},
  outputs: { rank: number }[] = [{ rank: 3 }],
) => checkLowering({ op: "MultiHeadAttention", inputs, attributes: { num_heads: heads, ...attributes }, outputs });

describe("MultiHeadAttention", () => {
  test("query, key and value; a constant bias is cut into three", async () => {
    await run([q, kv, kv]);
    const { graph } = await run([q, kv, kv, bias]);
    expect(graph.nodes.filter((n) => n.op === "Split")).toHaveLength(0);
    await run([q, kv, { dims: [batch, keys, 4] }, { dims: [20] }]);
  });

  // The CPU kernel refuses packed inputs; what they mean is stated by the same numbers side by side.
  const data = Array.from({ length: batch * tokens * 3 * hidden }, (_, i) => Math.sin(i));
  const slot = (part: number): number[] =>
    Array.from({ length: batch * tokens * hidden }, (_, i) => {
      const [row, head, channel] = [Math.floor(i / hidden), Math.floor((i % hidden) / width), i % width];
      return data[((row * heads + head) * 3 + part) * width + channel] ?? 0;
    });
  const flat = (part: number): FusedInput => ({ ...q, data: slot(part) });

  test.each([null, bias])("packed query, key and value", async (own) => {
    const packed: FusedInput = {
      dims: [batch, tokens, heads, 3, width],
      shape: ["batch", "tokens", heads, 3, width],
      data,
    };
    const spec = (inputs: (FusedInput | null)[]) =>
      fusedModel({ op: "MultiHeadAttention", inputs, attributes: { num_heads: heads }, outputs: [{ rank: 3 }] });
    const fused = spec([packed, null, null, own]);
    const plain = spec([
      flat(0),
      flat(1),
      flat(2),
      own && { ...own, data: [...toFloat32Array(fused.tensors.get("x3")!)] },
    ]);
    await compareModels(lowerModel(fused.model), fused.tensors, plain.model, plain.tensors);
  });

  test("packed key and value; keys split into heads", async () => {
    const pairs = Array.from({ length: batch * tokens * 2 * hidden }, (_, i) => {
      const [row, rest] = [Math.floor(i / (2 * hidden)), i % (2 * hidden)];
      const [head, part, channel] = [
        Math.floor(rest / (2 * width)),
        Math.floor((rest % (2 * width)) / width),
        i % width,
      ];
      return data[((row * heads + head) * 3 + part + 1) * width + channel] ?? 0;
    });
    const packed: FusedInput = { dims: [batch, tokens, heads, 2, width], data: pairs };
    const spec = (inputs: (FusedInput | null)[]) =>
      fusedModel({ op: "MultiHeadAttention", inputs, attributes: { num_heads: heads }, outputs: [{ rank: 3 }] });
    const [fused, plain] = [spec([flat(0), packed]), spec([flat(0), flat(1), flat(2)])];
    await compareModels(lowerModel(fused.model), fused.tensors, plain.model, plain.tensors);
    const split: FusedInput = { dims: [batch, heads, keys, width] };
    await run([q, split, split]);
  });

  test("key padding masks", async () => {
    await run([{ ...q, shape: q.dims }, kv, kv, bias, mask([batch], [3, 6])]);
    await run([q, kv, kv, bias, mask([batch, keys], [1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1])]);
    const square = Array.from({ length: batch * tokens * keys }, (_, i) => (i % 5 === 1 ? 0 : 1));
    await run([q, kv, kv, null, mask([batch, tokens, keys], square)]);
  });

  test("an attention bias", async () => {
    await run([q, kv, kv, null, null, { dims: [batch, heads, tokens, keys] }]);
    await run([q, kv, kv, null, null, { dims: [1, heads, tokens, keys] }]);
    await run([
      q,
      kv,
      kv,
      bias,
      mask([batch, keys], [1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1]),
      { dims: [1, 1, tokens, keys] },
    ]);
  });

  test("unidirectional, with past and present", async () => {
    await run([q, q, q], { unidirectional: 1 });
    const past: FusedInput = { dims: [batch, heads, 3, width], shape: ["batch", heads, "past", width] };
    const outputs = [{ rank: 3 }, { rank: 4 }, { rank: 4 }];
    await run([q, q, q, bias, null, null, past, past], { unidirectional: 1 }, outputs);
    await run(
      [q, q, q, null, mask([batch, 7], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]), null, past, past],
      {},
      outputs,
    );
    await run([q, q, q], {}, outputs);
  });

  test("a cache of fixed length is refused", () => {
    const past: FusedInput = { dims: [batch, heads, 9, width] };
    const length = { dims: [1], data: [3], type: "int32" } as const;
    const { model } = fusedModel({
      op: "MultiHeadAttention",
      inputs: [q, q, q, null, null, null, past, past, length],
      attributes: { num_heads: heads },
    });
    expect(() => lowerModel(model)).toThrow(PeftError);
  });
});
