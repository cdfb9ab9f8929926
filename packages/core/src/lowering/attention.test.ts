import { describe, expect, test } from "vitest";
import { PeftError } from "../errors.ts";
import { lowerModel } from "./lower-model.ts";
import { checkLowering, compareModels } from "./testing/check-lowering.ts";
import { type FusedInput, fusedModel } from "./testing/fused-model.ts";

const [batch, tokens, hidden, heads] = [2, 5, 8, 2];
const x: FusedInput = { dims: [batch, tokens, hidden], shape: ["batch", "tokens", hidden] };
const weight: FusedInput = { dims: [hidden, 3 * hidden], constant: true };
const bias: FusedInput = { dims: [3 * hidden], constant: true };
const ints = (dims: readonly number[], data: readonly number[], shape = dims as readonly (number | string)[]) =>
  ({ dims, data, type: "int32", shape }) as const;
const [lengths, bounds] = [
  [3, 5],
  [4, 5, 1, 0],
];
const padding = [1, 1, 1, 0, 0, 1, 1, 1, 1, 1];
const square = Array.from({ length: batch * tokens * tokens }, (_, i) => ((i * 7) % 5 === 0 && i % 6 !== 0 ? 0 : 1));
const run = (
  inputs: readonly (FusedInput | null)[],
  attributes: Record<string, number> = {},
  more: Partial<Parameters<typeof checkLowering>[0]> = {},
) =>
  checkLowering({
    op: "Attention",
    inputs,
    attributes: { num_heads: heads, ...attributes },
    outputs: [{ rank: 3 }],
    ...more,
  });

describe("Attention", () => {
  test("the packed projection stays one product", async () => {
    const { graph } = await run([x, weight, bias]);
    expect(graph.nodes.filter((n) => n.op === "MatMul")).toHaveLength(2);
    expect(graph.nodes.filter((n) => n.op === "Split")).toHaveLength(1);
    expect(graph.initializers.has("x1")).toBe(true);
  });

  const masks: Record<string, FusedInput> = {
    "lengths [batch]": ints([batch], lengths, ["batch"]),
    "ends and starts [2 batch]": ints([2 * batch], bounds),
    "[batch, keys]": ints([batch, tokens], padding, ["batch", "tokens"]),
    "[batch, tokens, keys]": ints([batch, tokens, tokens], square, ["batch", "tokens", "tokens"]),
  };
  describe.each(Object.entries(masks))("mask %s", (name, mask) => {
    const given = name.includes("2 batch") ? { ...x, shape: x.dims } : x;
    test("alone", async () => {
      await run([given, weight, bias, mask]);
    });
    test("unidirectional", async () => {
      await run([given, weight, bias, mask], { unidirectional: 1 });
    });
  });

  test("a square mask [batch, 1, all, all] means its window", async () => {
    const large = Array.from({ length: batch * 49 }, (_, i) => {
      const [b, row, column] = [Math.floor(i / 49), Math.floor((i % 49) / 7), i % 7];
      return row < tokens && column < tokens ? (square[(b * tokens + row) * tokens + column] ?? 0) : 0;
    });
    const spec = (mask: FusedInput) => ({
      op: "Attention",
      inputs: [x, weight, bias, mask],
      attributes: { num_heads: heads },
      outputs: [{ rank: 3 }],
    });
    const three = fusedModel(spec(masks["[batch, tokens, keys]"] as FusedInput));
    const four = fusedModel(spec(ints([batch, 1, 7, 7], large, ["batch", 1, "all", "all"])));
    await compareModels(lowerModel(four.model), four.tensors, three.model, three.tensors, 1e-6);
  });

  test("unidirectional, without a bias, another scale and filter", async () => {
    // The CPU kernel crashes the process without a bias, so one of zeros says what is meant.
    const spec = (own: FusedInput | null) =>
      fusedModel({
        op: "Attention",
        inputs: [x, weight, own, null, null, { dims: [1, heads, tokens, tokens] }],
        attributes: { num_heads: heads },
        outputs: [{ rank: 3 }],
      });
    const zeros = spec({ ...bias, data: new Array(3 * hidden).fill(0) });
    const without = spec(null);
    without.tensors.set("x5", zeros.tensors.get("x5")!);
    await compareModels(lowerModel(without.model), without.tensors, zeros.model, zeros.tensors);
    const mask = masks["[batch, keys]"] as FusedInput;
    const attributes = {
      num_heads: heads,
      scale: { type: "float", value: 0.3 },
      mask_filter_value: { type: "float", value: -3 },
    } as const;
    await checkLowering({ op: "Attention", inputs: [x, weight, bias, mask], attributes, outputs: [{ rank: 3 }] });
  });

  test("an attention bias, shared by samples or heads", async () => {
    await run([x, weight, bias, null, null, { dims: [batch, heads, tokens, tokens] }]);
    await run([x, weight, bias, masks["[batch, keys]"] as FusedInput, null, { dims: [1, heads, tokens, tokens] }]);
    await run([x, weight, bias, null, null, { dims: [batch, 1, tokens, tokens] }], { unidirectional: 1 });
  });

  test("past and present; values of another width", async () => {
    const past: FusedInput = {
      dims: [2, batch, heads, 3, hidden / heads],
      shape: [2, "batch", heads, "past", hidden / heads],
    };
    const mask = ints([batch, tokens + 3], [0, ...padding.slice(0, 7), 1, 1, 0, 1, 1, 1, 1, 1]);
    const outputs = [{ rank: 3 }, { rank: 5 }];
    await run([x, weight, bias, null, past], { unidirectional: 1 }, { outputs });
    await run([x, weight, bias, mask, past], { unidirectional: 1 }, { outputs });
    await run([x, weight, bias], {}, { outputs });
    await run(
      [x, { dims: [hidden, 20], constant: true }, { dims: [20], constant: true }],
      {},
      {
        attributes: { num_heads: heads, qkv_hidden_sizes: [8, 8, 4] },
      },
    );
  });

  test("what has no plain form is refused by name", () => {
    const lower = (attributes: Record<string, number>) => () =>
      lowerModel(
        fusedModel({ op: "Attention", inputs: [x, weight, bias], attributes: { num_heads: heads, ...attributes } })
          .model,
      );
    expect(lower({ do_rotary: 1 })).toThrow(
      expect.objectContaining({ code: "NOT_LOWERED", details: expect.objectContaining({ reason: "do_rotary" }) }),
    );
    expect(lower({ past_present_share_buffer: 1 })).toThrow(PeftError);
  });
});
