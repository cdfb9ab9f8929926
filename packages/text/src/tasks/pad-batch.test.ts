import { expect, test } from "vitest";
import { padBatch } from "./pad-batch.ts";

test("texts are padded to the longest, with mask and segments", () => {
  const batch = padBatch(
    [{ inputIds: Int32Array.of(5, 6, 7), tokenTypeIds: Int32Array.of(0, 1, 1) }, { inputIds: Int32Array.of(8) }],
    1,
  );
  expect(batch.input_ids).toEqual({ type: "int64", dims: [2, 3], data: BigInt64Array.of(5n, 6n, 7n, 8n, 1n, 1n) });
  expect(batch["attention_mask"]?.data).toEqual(BigInt64Array.of(1n, 1n, 1n, 1n, 0n, 0n));
  expect(batch["token_type_ids"]?.data).toEqual(BigInt64Array.of(0n, 1n, 1n, 0n, 0n, 0n));
});
