import { expect, test } from "vitest";
import { adapterOf, initialParameters } from "../adapters/adapter.ts";
import { embedAdapter } from "../adapters/apply-adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { lily } from "./lily.ts";
import type { AdapterTensor } from "./method.ts";
import { groundOf } from "./testing/grounds.ts";
import { runOneSite } from "./testing/one-site.ts";

const random = testRandom(31);
const tensor = (dims: readonly number[]): AdapterTensor => ({
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
});

const [rows, width, out, r, numB] = [7, 4, 5, 2, 3];
const x = tensor([rows, width]);
const weight = tensor([out, width]);
const at = { method: lily, config: { r, numB, scaling: 1.5 }, weight };
const [A, B, router] = [tensor([r, width]), tensor([numB * r, out]), tensor([numB, r])];

/** y as the paper writes it: first what every token would choose, then the mean. */
function expected(matrices: AdapterTensor): number[] {
  const inner = (t: number): number[] =>
    Array.from({ length: r }, (_, k) => {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += x.data[t * width + i]! * A.data[k * width + i]!;
      return sum;
    });
  const mean = new Array<number>(numB).fill(0);
  for (let t = 0; t < rows; t++) {
    const scores = mean.map((_, e) => Math.exp(inner(t).reduce((s, h, k) => s + h * router.data[e * r + k]!, 0)));
    const total = scores.reduce((a, b) => a + b, 0);
    scores.forEach((s, e) => {
      mean[e]! += s / total / rows;
    });
  }
  return Array.from({ length: rows * out }, (_, place) => {
    const [t, o] = [Math.floor(place / out), place % out];
    let y = 0;
    for (let i = 0; i < width; i++) y += x.data[t * width + i]! * weight.data[o * width + i]!;
    inner(t).forEach((h, k) => {
      for (let e = 0; e < numB; e++) y += 1.5 * h * mean[e]! * matrices.data[(e * r + k) * out + o]!;
    });
    return y;
  });
}

test("mixes its matrices by the mean over all tokens, and is LoRA where they are equal", async () => {
  const dy = new Float32Array(rows * out);
  const first = B.data.slice(0, r * out);
  const equal = { dims: B.dims, data: Float32Array.from([...first, ...first, ...first]) };
  for (const matrices of [B, equal]) {
    const { y } = await runOneSite(at, { A, B: matrices, router }, x, dy);
    const wanted = expected(matrices);
    y.forEach((v, i) => {
      expect(v).toBeCloseTo(wanted[i]!, 5);
    });
  }
  // Equal matrices: the router has no say.
  const other = await runOneSite(at, { A, B: equal, router: tensor([numB, r]) }, x, dy);
  const wanted = expected(equal);
  other.y.forEach((v, i) => {
    expect(v).toBeCloseTo(wanted[i]!, 5);
  });
});

test("neighbours have one A and a kind has its B, in files under every module; copies that differ are refused", () => {
  const { model } = groundOf("transformer block");
  const config = { r: 2, strideA: 2, targetModules: ["query", "value"] };
  const adapted = injectAdapter(model, { method: lily, config });
  const modules = adapted.plans.map(({ site }) => site.name);
  const named = (key: string): string[] => adapted.parameters.flatMap(({ name }) => (name.endsWith(key) ? [name] : []));
  expect([named("lily_A.weight"), named("lily_B.weight"), named("router.weight")].map((list) => list.length)).toEqual([
    2,
    2,
    modules.length,
  ]);
  const adapter = adapterOf(adapted, initialParameters(adapted, 1));
  expect(adapter.tensors.size).toBe(3 * modules.length);
  expect(() => embedAdapter(model, adapter)).not.toThrow();
  const copy = `${modules.at(-1)}.lily_A.weight`;
  const { dims, data } = adapter.tensors.get(copy)!;
  const changed = new Map(adapter.tensors).set(copy, { dims, data: data.map((v) => v + 1) });
  expect(() => embedAdapter(model, { ...adapter, tensors: changed })).toThrow(
    expect.objectContaining({ code: "ADAPTER_MISMATCH", message: expect.stringContaining("should be one tensor") }),
  );
  changed.delete(copy);
  expect(() => embedAdapter(model, { ...adapter, tensors: changed })).not.toThrow();
});

test("targets that are named apart share nothing; an expression is one kind", () => {
  const { model } = groundOf("transformer block");
  const count = (targetModules: string[] | string): number =>
    injectAdapter(model, { method: lily, config: { targetModules } }).parameters.filter(({ role }) => role === "B")
      .length;
  expect(count(["query", "value"])).toBe(2);
  expect(count(".*(query|value)")).toBe(1);
  expect(count(["0.attention.self.query", "1.attention.self.query", "value"])).toBe(3);
});
