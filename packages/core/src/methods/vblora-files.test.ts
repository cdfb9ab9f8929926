import { expect, test } from "vitest";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import { parseAdapterConfig } from "../adapters/select.ts";
import { testRandom } from "../testing/check-gradient.ts";
import type { AdapterTensor } from "./method.ts";
import { tinyTraining } from "./testing/tiny-training.ts";
import { vblora } from "./vblora.ts";
import { chosenVectors, fromChosen, withoutLogits } from "./vblora-files.ts";

const name = "lin.vblora_logits_A";
const random = testRandom(7);

/** An adapter with logits of one module [2, 3, vectors]. */
const adapterOf = (numVectors: number, topk: number) => ({
  type: vblora.type,
  config: parseAdapterConfig(vblora, { targetModules: ["lin"], numVectors, topk, r: 2, saveOnlyTopkWeights: true }),
  tensors: new Map<string, AdapterTensor>([
    [name, { dims: [2, 3, numVectors], data: Float32Array.from({ length: 6 * numVectors }, () => random() * 4 - 2) }],
  ]),
});

test.each([
  [12, 3, "uint8"],
  [300, 1, "int16"],
  [40_000, 4, "int32"],
])("of %i vectors the best %i are kept, their numbers as %s, and give the same mixture", (vectors, topk, type) => {
  const adapter = adapterOf(vectors, topk);
  const files = toPeft(adapter);
  expect([...files.tensors].map(([key, tensor]) => [key, tensor.type, tensor.dims])).toEqual([
    [`${name}_topk_indices`, type, [2, 3, topk]],
    [`${name}_topk_weights`, "float32", [2, 3, topk - 1]],
  ]);
  const again = fromPeft(files).tensors.get(name)!;
  expect(again.dims).toEqual([2, 3, vectors]);
  for (let row = 0; row < 6; row++) {
    const of = ({ data }: AdapterTensor) => chosenVectors(data.subarray(row * vectors, (row + 1) * vectors), topk);
    const [was, is] = [of(adapter.tensors.get(name)!), of(again)];
    expect(is.places).toEqual(was.places);
    is.shares.forEach((share, k) => {
      expect(share).toBeCloseTo(was.shares[k]!, 6);
    });
  }
});

test("without the option files hold the logits", () => {
  const { config, tensors } = adapterOf(12, 3);
  const files = withoutLogits({ config: { ...config, saveOnlyTopkWeights: false } as never, tensors });
  expect(files.tensors).toEqual(tensors);
});

test.each([
  ["a vector that is not there", { dims: [1, 1, 2], data: new Float32Array([0, 12]) }, [0.5]],
  ["a share above one", { dims: [1, 1, 2], data: new Float32Array([0, 1]) }, [1.5]],
  ["shares that are no numbers", { dims: [1, 1, 2], data: new Float32Array([0, 1]) }, [Number.NaN]],
  ["another number of vectors", { dims: [1, 1, 3], data: new Float32Array([0, 1, 2]) }, [0.5]],
  ["no shares", { dims: [1, 1, 2], data: new Float32Array([0, 1]) }, null],
])("%s is refused", (_, indices, shares) => {
  const tensors = new Map<string, AdapterTensor>([[`${name}_topk_indices`, indices]]);
  if (shares) tensors.set(`${name}_topk_weights`, { dims: [1, 1, 1], data: Float32Array.from(shares) });
  const config = { numVectors: 12, topk: 2, saveOnlyTopkWeights: true };
  expect(() => fromChosen({ config, tensors })).toThrow(expect.objectContaining({ code: "ADAPTER_MISMATCH" }));
});

test("training goes on with the chosen vectors: others stay out", async () => {
  const config = { r: 2, numVectors: 6, vectorLength: 4, topk: 2, targetModules: ["query"] };
  const chosen = (values: Iterable<readonly [string, ArrayLike<number>]>): number[][] =>
    [...values]
      .filter(([key]) => key.includes("vblora_logits"))
      .flatMap(([, data]) =>
        Array.from({ length: data.length / 6 }, (_, row) => Array.from(data).slice(row * 6, row * 6 + 6)),
      )
      .map((row) => chosenVectors(Float32Array.from(row), 2).places.sort((a, b) => a - b));
  const before: number[][] = [];
  const training = await tinyTraining("VBLORA", config, {
    start(values) {
      const form = { config: { numVectors: 6, topk: 2, saveOnlyTopkWeights: true } };
      const tensors = new Map([...values].map(([key, data]) => [key, { dims: [data.length / 6, 6], data }] as const));
      const kept = [...tensors].filter(([key]) => key.includes("vblora_logits"));
      for (const [key, { data }] of fromChosen(withoutLogits({ ...form, tensors: new Map(kept) })).tensors)
        values.get(key)?.set(data);
      before.push(...chosen(values));
    },
  });
  const losses = await training.steps(0, 12);
  expect(losses.at(-1)).toBeLessThan(losses[0]!);
  const { parameters } = await training.engine.state();
  const after = Object.entries(parameters).map(([key, { data }]) => [key, data as Float32Array] as const);
  expect(before.length).toBeGreaterThan(4);
  expect(chosen(after)).toEqual(before);
  await training.engine.close();
});
