import { expect, test } from "vitest";
import { checkFormula } from "./testing/check-lowering.ts";

const length = (n: number) => ({ dims: [1], type: "int64", data: [n] }) as const;
const { fround } = Math;

/** T5's bucket of key - query, in the steps and the precision of PyTorch. */
function bucketOf(distance: number, both: boolean, count: number, most: number): number {
  const buckets = both ? count / 2 : count;
  const base = both && distance > 0 ? buckets : 0;
  const far = both ? Math.abs(distance) : Math.max(0, -distance);
  const exact = Math.floor(buckets / 2);
  if (far < exact) return base + far;
  const grown = fround(fround(Math.log(fround(far / exact))) / fround(Math.log(most / exact))) * (buckets - exact);
  return base + Math.min(buckets - 1, exact + Math.floor(fround(grown)));
}

test.each([
  { both: false, queries: 5, keys: 5, most: 128, buckets: 8 },
  { both: true, queries: 40, keys: 40, most: 20, buckets: 32 },
  { both: false, queries: 70, keys: 66, most: 128, buckets: 32 },
  { both: true, queries: 3, keys: 150, most: 128, buckets: 32 },
])("RelativePositionBias: %j", async ({ both, queries, keys, most, buckets }) => {
  const heads = 3;
  const lowered = await checkFormula(
    {
      op: "RelativePositionBias",
      inputs: [{ dims: [buckets, heads] }, length(queries), length(keys)],
      attributes: { is_bidirectional: both ? 1 : 0, max_distance: most },
      outputs: [{ rank: 4 }],
    },
    ([table]) => {
      const data = new Float32Array(heads * queries * keys);
      for (let head = 0; head < heads; head++)
        for (let q = 0; q < queries; q++)
          for (let k = 0; k < keys; k++)
            data[(head * queries + q) * keys + k] = Number(
              table?.data[bucketOf(k - q, both, buckets, most) * heads + head],
            );
      return [{ type: "float32", dims: [1, heads, queries, keys], data }];
    },
  );
  expect(lowered.graph.nodes.map((n) => n.domain)).not.toContain("com.microsoft");
});
