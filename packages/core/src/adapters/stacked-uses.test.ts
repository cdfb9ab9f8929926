import { expect, test } from "vitest";
import { checkModel } from "../check/check-model.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { lora } from "../methods/lora.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { randomWeight } from "../testing/random-weight.ts";
import { adapterOf, initialParameters } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter, unmergeAdapter } from "./merge.ts";
import { frozenSite } from "./operands.ts";
import { findSites } from "./sites.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";
import { difference, runPacked } from "./testing/run-packed.ts";

const hidden = 4;

interface Form {
  /** Modules that the product and the way out were traced in. */
  readonly scope?: string;
  readonly out?: string;
  /** What the parts are folded by: the axis of the parts before that of the features, or behind it. */
  readonly fold?: readonly number[];
  /** Axes that the parts come in front by. */
  readonly perm?: readonly number[];
  /** Key and value without the query, which a module of its own makes. */
  readonly alone?: boolean;
  /** Another reader of the packed result. */
  readonly also?: (g: Builder, packed: Value) => Value;
}

/** What nn.MultiheadAttention computes with one head, as both exporters write it. */
function attention({
  scope = "attn",
  out = "attn",
  alone = false,
  fold = [0, 0, alone ? 2 : 3, hidden],
  perm = [3, 1, 2, 0, 4],
  also,
}: Form = {}): Model {
  const random = testRandom(4);
  const g = createBuilder(17);
  const weight = (name: string, ...dims: number[]): Value => randomWeight(g, name, dims, { random });
  const count = alone ? 2 : 3;
  const x = g.input("x", "float32", ["batch", "tokens", hidden]);
  const [y] = g.op("MatMul", [x, weight("onnx::MatMul_1", hidden, count * hidden)], {}, { name: `/${scope}/MatMul` });
  const packed = g.add(weight(`${scope}.in_proj_bias`, count * hidden), y as Value);
  const [folded] = g.op("Reshape", [packed, g.constant("int64", fold)]);
  const [apart] = g.op("Transpose", [g.op("Unsqueeze", [folded as Value, g.constant("int64", [0])])[0] as Value], {
    perm,
  });
  const [front] = g.op("Squeeze", [apart as Value, g.constant("int64", [3])]);
  const picked = Array.from(
    { length: count },
    (_, i) => g.op("Gather", [front as Value, g.constant("int64", i)], { axis: 0 })[0] as Value,
  );
  const query = alone
    ? g.op("MatMul", [x, weight("onnx::MatMul_3", hidden, hidden)], {}, { name: "/query/MatMul" })
    : [];
  const [q, k, v] = [...query, ...picked];
  const attended = g.matMul(g.softmax(g.matMul(q as Value, g.transpose(k as Value, [0, 2, 1]))), v as Value);
  const [result] = g.op(
    "MatMul",
    [attended, weight("onnx::MatMul_2", hidden, hidden)],
    {},
    { name: `/${out}/MatMul_1` },
  );
  g.output(also ? g.add(result as Value, also(g, packed)) : (result as Value), "y");
  return toModel(g.finish(), 17);
}

const parts = ["attn.in_proj.query", "attn.in_proj.key", "attn.in_proj.value"];
const namesOf = (model: Model): string[] => findSites(model).map((site) => site.name);

test.each<[string, Form, string[]]>([
  ["in the same module", {}, [...parts, "attn"]],
  ["in a module inside", { out: "attn/out_proj" }, [...parts, "attn.out_proj"]],
  ["behind key and value alone", { alone: true }, [...parts.slice(1), "query", "attn"]],
  // Its shape is read and not its numbers.
  [
    "whose shape is read",
    { also: (g, packed) => g.reduceSum(g.cast(g.op("Shape", [packed])[0] as Value, "float32"), [0]) },
    [...parts, "attn"],
  ],
])("three modules where the way out is %s", (_, form, expected) => {
  expect(namesOf(attention(form))).toEqual(expected);
});

test.each<[string, Form, string[]]>([
  ["the product is a module", { scope: "attn/qkv", out: "attn/proj" }, ["attn.qkv", "attn.proj"]],
  ["features come before parts", { fold: [0, 0, hidden, 3], perm: [4, 1, 2, 0, 3] }, ["attn", "attn.onnx::MatMul_2"]],
  [
    "something else reads the packed numbers",
    { also: (g, packed) => g.reduceSum(packed, [2]) },
    ["attn", "attn.onnx::MatMul_2"],
  ],
])("one module where %s", (_, form, expected) => {
  expect(namesOf(attention(form))).toEqual(expected);
});

test("the parts are the packed weight's columns and the packed bias's numbers", () => {
  const { graph } = attention();
  const packed = toFloat32Array(graph.initializers.get("onnx::MatMul_1")!);
  const bias = toFloat32Array(graph.initializers.get("attn.in_proj_bias")!);
  findSites(attention())
    .slice(0, 3)
    .forEach((site, part) => {
      expect(site).toMatchObject({ kind: "linear", inFeatures: hidden, outFeatures: hidden, hasBias: true });
      const frozen = frozenSite(graph, site);
      expect(frozen.bias()).toEqual(bias.slice(part * hidden, (part + 1) * hidden));
      frozen.weight().forEach((value, i) => {
        const [row, column] = [Math.floor(i / hidden), i % hidden];
        expect(value).toBe(packed[column * 3 * hidden + part * hidden + row]);
      });
    });
});

test("gradients are those of finite differences", async () => {
  const { verdict, reasons, kinds } = await checkModel(attention(), onnxruntimeNode, {
    threads: 1,
    batch: 2,
    tokens: 8,
  });
  expect({ verdict, reasons }).toEqual({ verdict: "ready", reasons: [] });
  expect(kinds.map(({ kind, sites }) => [kind, sites])).toEqual([["linear", 4]]);
});

test.each([[["query", "value"]], [["query", "key", "value"]], [["key"]]])(
  "%j merged into the packed weight and beside it agree",
  async (targetModules) => {
    const model = attention();
    const options = { method: lora, config: { r: 2, alpha: 3, targetModules } };
    const adapted = injectAdapter(model, options);
    const random = testRandom(8);
    const values = new Map(
      [...initialParameters(adapted, 1)].map(([name, list]) => [name, list.map((x) => x + random() - 0.5)]),
    );
    const adapter = adapterOf(adapted, values);
    const swappable = makeSwappable(model, options);
    const [before, beside] = [
      await runPacked(model),
      await runPacked(swappable.model, adapterFeeds(swappable, adapter)),
    ];
    const merged = mergeAdapter(model, adapter);
    expect([...merged.graph.initializers.keys()]).toEqual([...model.graph.initializers.keys()]);
    expect(difference(beside, before)).toBeGreaterThan(1e-3);
    expect(difference(await runPacked(merged), beside)).toBeLessThan(1e-5);
    expect(difference(await runPacked(unmergeAdapter(merged, adapter)), before)).toBeLessThan(1e-5);
  },
);
