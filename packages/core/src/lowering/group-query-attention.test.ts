import { describe, expect, test } from "vitest";
import { PeftError } from "../errors.ts";
import { lowerModel } from "./lower-model.ts";
import { checkLowering, feedsOf, runOnce } from "./testing/check-lowering.ts";
import { type FusedInput, fusedModel } from "./testing/fused-model.ts";

const [batch, tokens, heads, shared, width] = [2, 6, 4, 2, 16];
const input = (size: number): FusedInput => ({ dims: [batch, tokens, size], shape: ["batch", "tokens", size] });
const [q, kv] = [input(heads * width), input(shared * width)];
const packed = input((heads + 2 * shared) * width);
const cache = (past: number): FusedInput => ({
  dims: [batch, shared, past, width],
  shape: ["batch", shared, "past", width],
});
const ints = (dims: readonly number[], data: readonly number[]) => ({ dims, data, type: "int32" }) as const;
const lengths = (past = 0) => [ints([batch], [past + tokens - 1, past + tokens - 1]), ints([1], [past + tokens])];
const table = (half: number): FusedInput => ({ dims: [16, half], constant: true });
/** The first sample alone: the kernel continues one prompt at a time. */
const single = (inputs: readonly FusedInput[]): FusedInput[] =>
  inputs.map((v) =>
    v.dims[0] === batch ? { ...v, dims: [1, ...v.dims.slice(1)], ...(v.data ? { data: [v.data[0] ?? 0] } : {}) } : v,
  );
const outputs = [{ rank: 3 }, { rank: 4 }, { rank: 4 }];
const run = (
  inputs: readonly (FusedInput | null)[],
  attributes: Parameters<typeof checkLowering>[0]["attributes"] = {},
) =>
  checkLowering({
    op: "GroupQueryAttention",
    inputs,
    attributes: { num_heads: heads, kv_num_heads: shared, ...attributes },
    outputs,
  });

describe("GroupQueryAttention", () => {
  test("without and with a past", async () => {
    await run([q, kv, kv, null, null, ...lengths()]);
    await run([q, kv, kv, cache(0), cache(0), ...lengths()]);
    await run(single([q, kv, kv, cache(3), cache(3), ...lengths(3)]));
  });

  test("packed input, another scale", async () => {
    await run([packed, null, null, null, null, ...lengths()], { scale: { type: "float", value: 0.2 } });
  });

  test("rotary positions inside, also of a part of a head and interleaved", async () => {
    await run([q, kv, kv, null, null, ...lengths(), table(8), table(8)], { do_rotary: 1 });
    await run([packed, null, null, null, null, ...lengths(), table(8), table(8)], {
      do_rotary: 1,
      rotary_interleaved: 1,
    });
    await run(single([q, kv, kv, cache(3), cache(3), ...lengths(3), table(8), table(8)]), { do_rotary: 1 });
  });

  test.each([1, 2, 4, 20])("a window of %i", async (size) => {
    await run([q, kv, kv, null, null, ...lengths()], { local_window_size: size });
  });

  test("softcap and smooth softmax", async () => {
    await run([q, kv, kv, null, null, ...lengths()], { softcap: { type: "float", value: 0.7 } });
    await run([q, kv, kv, null, null, ...lengths()], { smooth_softmax: 1 });
    await run([q, kv, kv, null, null, ...lengths()], {
      smooth_softmax: 1,
      local_window_size: 3,
      softcap: { type: "float", value: 2 },
    });
  });

  test("position ids, an attention bias, sinks", async () => {
    const positions = { dims: [batch, tokens], type: "int64", data: [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5] } as const;
    await run([q, kv, kv, null, null, ...lengths(), table(8), table(8), positions], { do_rotary: 1 });
    const bias: FusedInput = { dims: [batch, heads, tokens, tokens] };
    await run([q, kv, kv, null, null, ...lengths(), null, null, null, bias]);
    await run([q, kv, kv, null, null, ...lengths(), null, null, null, null, { dims: [heads] }]);
  });

  test("padding on the right: valid tokens are the operator's", async () => {
    const { model, tensors } = fusedModel({
      op: "GroupQueryAttention",
      inputs: [q, kv, kv, null, null, ints([batch], [2, tokens - 1]), ints([1], [tokens])],
      attributes: { num_heads: heads, kv_num_heads: shared },
      outputs: [{ rank: 3 }, null, null],
    });
    const feeds = feedsOf(tensors);
    const withPresent = {
      ...model,
      graph: { ...model.graph, nodes: [{ ...model.graph.nodes[0]!, outputs: ["y0", "k", "v"] }] },
    };
    const [found, expected] = [await runOnce(lowerModel(withPresent), feeds), await runOnce(withPresent, feeds)];
    const valid = (data: ArrayLike<unknown>): number[] =>
      Array.from(data as ArrayLike<number>).filter((_, i) => {
        const row = Math.floor(i / (heads * width));
        return row < 3 || row >= tokens;
      });
    const [a, b] = [valid(found["y0"]!.data as Float32Array), valid(expected["y0"]!.data as Float32Array)];
    expect(Math.max(...a.map((v, i) => Math.abs(v - (b[i] ?? Number.NaN))))).toBeLessThan(1e-6);
  });

  test("fixed-length and quantised caches are refused by name", () => {
    const lower =
      (inputs: (FusedInput | null)[], attributes: Record<string, string> = {}) =>
      () =>
        lowerModel(
          fusedModel({
            op: "GroupQueryAttention",
            inputs,
            attributes: { num_heads: heads, kv_num_heads: shared, ...attributes },
            outputs,
          }).model,
        );
    const fixed: FusedInput = { dims: [batch, shared, 16, width] };
    expect(lower([q, kv, kv, fixed, fixed, ...lengths()])).toThrow(PeftError);
    expect(lower([q, kv, kv, null, null, ...lengths()], { k_quant_type: "PER_TENSOR" })).toThrow(/quantised cache/);
  });
});
