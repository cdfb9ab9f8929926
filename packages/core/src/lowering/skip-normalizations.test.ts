import { expect, test } from "vitest";
import { checkLowering } from "./testing/check-lowering.ts";
import type { FusedInput } from "./testing/fused-model.ts";

const x: FusedInput = { dims: [2, 3, 16], shape: ["batch", "tokens", 16] };
const vector: FusedInput = { dims: [16] };
const epsilon = { epsilon: { type: "float", value: 1e-5 } } as const;

test.each([
  { bias: false, sum: false },
  { bias: true, sum: true },
])("SkipLayerNormalization, $bias, $sum", async ({ bias, sum }) => {
  const outputs = [{ rank: 3 }, null, null, sum ? { rank: 3 } : null];
  const inputs = [x, x, vector, vector, bias ? vector : null];
  const { graph } = await checkLowering({ op: "SkipLayerNormalization", inputs, attributes: epsilon, outputs });
  expect(graph.nodes.at(-1)?.op).toBe("LayerNormalization");
});

test("SkipLayerNormalization with a shared skip, without beta, default epsilon", async () => {
  await checkLowering({
    op: "SkipLayerNormalization",
    inputs: [x, { dims: [1, 3, 16] }, vector],
    outputs: [{ rank: 3 }],
  });
  await checkLowering({
    op: "SkipLayerNormalization",
    inputs: [x, { dims: [3, 16] }, vector, vector],
    outputs: [{ rank: 3 }],
  });
});

test.each([false, true])("SkipSimplifiedLayerNormalization, bias and sum %s", async (more) => {
  const outputs = [{ rank: 3 }, null, null, more ? { rank: 3 } : null];
  const inputs = [x, x, vector, more ? vector : null];
  const { graph } = await checkLowering({
    op: "SkipSimplifiedLayerNormalization",
    inputs,
    attributes: epsilon,
    outputs,
  });
  expect(graph.nodes.at(-1)?.op).toBe("SimplifiedLayerNormalization");
});

const ints = (dims: readonly number[], data: readonly number[]): FusedInput => ({
  dims,
  data,
  type: "int32",
  shape: dims.length === 2 && dims[0] === 2 ? ["batch", "tokens"] : dims,
});
const ids = ints([2, 4], [1, 2, 3, 4, 5, 6, 0, 0]);
const rows = (count: number): FusedInput => ({ dims: [count, 16], constant: true });
const constants = [
  { dims: [16], constant: true },
  { dims: [16], constant: true },
];

test.each([
  { segments: true, mask: true, positions: false },
  { segments: false, mask: true, positions: true },
  { segments: true, mask: false, positions: true },
])("EmbedLayerNormalization %j", async ({ segments, mask, positions }) => {
  const inputs = [
    ids,
    segments ? ints([2, 4], [0, 0, 1, 1, 0, 1, 0, 0]) : null,
    rows(8),
    rows(6),
    segments ? rows(2) : null,
    ...constants,
    mask ? ints([2, 4], [1, 1, 1, 1, 1, 1, 0, 0]) : null,
    positions ? ints([1, 4], [2, 3, 4, 5]) : null,
  ];
  await checkLowering({
    op: "EmbedLayerNormalization",
    inputs,
    outputs: [{ rank: 3 }, { rank: 1, type: "int32" }, { rank: 3 }],
    attributes: mask ? {} : { mask_index_type: 0 },
  });
});
