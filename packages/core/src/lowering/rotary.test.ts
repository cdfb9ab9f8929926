import { describe, expect, test } from "vitest";
import { lowerModel } from "./lower-model.ts";
import { checkLowering } from "./testing/check-lowering.ts";
import { type FusedInput, fusedModel } from "./testing/fused-model.ts";

const ids = (dims: readonly number[], data: readonly number[]) => ({ dims, data, type: "int64" }) as const;
const table = (half: number): FusedInput => ({ dims: [16, half], constant: true });
const flat: FusedInput = { dims: [2, 5, 24], shape: ["batch", "tokens", 24] };
const split: FusedInput = { dims: [2, 3, 5, 8], shape: ["batch", 3, "tokens", 8] };
const positions = ids([2, 5], [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]);
const run = (inputs: FusedInput[], attributes: Record<string, number> = {}) =>
  checkLowering({ op: "RotaryEmbedding", inputs, attributes, outputs: [{ rank: inputs[0]?.dims.length ?? 0 }] });

describe("RotaryEmbedding", () => {
  test.each([0, 1])("interleaved %i", async (interleaved) => {
    await run([flat, positions, table(4), table(4)], { interleaved });
    await run([split, positions, table(4), table(4)], { interleaved });
    await run([split, ids([1], [3]), table(4), table(4)], { interleaved });
  });
  test("a part of each head", async () => {
    await run([flat, positions, table(2), table(2)], { num_heads: 3, rotary_embedding_dim: 4 });
    await run([split, positions, table(2), table(2)], { num_heads: 3, rotary_embedding_dim: 4 });
  });
  test("packed batches are refused", () => {
    const { model } = fusedModel({
      op: "RotaryEmbedding",
      inputs: [split, positions, table(4), table(4)],
      attributes: { is_packed_batching: 1 },
    });
    expect(() => lowerModel(model)).toThrow(/packed/);
  });
});
