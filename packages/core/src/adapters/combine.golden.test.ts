import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { decodeSafetensors } from "../formats/safetensors/read.ts";
import type { AdapterTensor } from "../methods/method.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import type { Adapter } from "./adapter.ts";
import { type Combination, type CombineOptions, combineAdapters } from "./combine.ts";
import { fromPeft } from "./peft-files.ts";

interface Run {
  adapters: string[];
  weights: number[];
  combination_type: Combination;
  svd_rank?: number;
  density?: number;
  majority_sign_method?: "total" | "frequency";
}
const folder = new URL("../../../../parity/golden/", import.meta.url);
const golden = JSON.parse(readFileSync(new URL("combine.json", folder), "utf8")) as {
  adapters: Record<string, Record<string, unknown>>;
  runs: Record<string, Run>;
};
const { tensors } = decodeSafetensors(readFileSync(new URL("combine.safetensors", folder)));

const under = (prefix: string) =>
  [...tensors].flatMap(([name, tensor]) =>
    name.startsWith(`${prefix}.`) ? [[name.slice(prefix.length + 1), tensor] as const] : [],
  );
const adapterOf = (name: string): Adapter =>
  fromPeft({ config: { peft_type: "LORA", ...golden.adapters[name] }, tensors: new Map(under(name)) });

/** B·A by its definition; of an embedding the transpose. */
function productOf(all: ReadonlyMap<string, AdapterTensor>, module: string): number[] {
  const isEmbedding = module === "words";
  const [a, b] = isEmbedding ? ["lora_embedding_A", "lora_embedding_B"] : ["lora_A.weight", "lora_B.weight"];
  const [A, B] = [all.get(`${module}.${a}`)!, all.get(`${module}.${b}`)!];
  const [r, out] = [A.dims[0]!, B.dims[0]!];
  const width = A.data.length / r;
  const entry = (o: number, i: number): number =>
    Array.from({ length: r }, (_, k) => B.data[o * r + k]! * A.data[k * width + i]!).reduce((s, v) => s + v, 0);
  return isEmbedding
    ? Array.from({ length: width * out }, (_, at) => entry(at % out, Math.floor(at / out)))
    : Array.from({ length: width * out }, (_, at) => entry(Math.floor(at / width), at % width));
}

function close(found: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(found.length).toBe(expected.length);
  const size = Math.max(...Array.from(expected, Math.abs));
  for (let i = 0; i < found.length; i++) expect(Math.abs(found[i]! - expected[i]!) / size).toBeLessThan(2e-6);
}

test.each(Object.entries(golden.runs))("%s as peft combines", (name, run) => {
  const { adapters, weights, combination_type: combination, svd_rank, density, majority_sign_method } = run;
  const options: CombineOptions = {
    combination,
    ...(svd_rank === undefined ? {} : { rank: svd_rank }),
    ...(density === undefined ? {} : { density }),
    ...(majority_sign_method === undefined ? {} : { majoritySign: majority_sign_method }),
  };
  const combined = combineAdapters(
    adapters.map((adapter, i) => ({ adapter: adapterOf(adapter), weight: weights[i]! })),
    options,
  );
  const modules = ["words", "dense", "image"];
  const expected = new Map(
    under(name).map(([key, tensor]) => [key, { dims: tensor.dims, data: toFloat32Array(tensor) }]),
  );
  for (const module of modules) {
    const product = expected.get(`${module}.product`)?.data ?? productOf(expected, module);
    close(productOf(combined.tensors, module), product);
  }
  if (combination.endsWith("svd") || name === "cat_of_ranks") return;
  // The factors themselves, under the same names.
  expect([...combined.tensors.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [key, { dims, data }] of expected) {
    expect(combined.tensors.get(key)!.dims).toEqual(dims);
    if (combination !== "cat") close(combined.tensors.get(key)!.data, data);
  }
});
