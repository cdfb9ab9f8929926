import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { ia3 } from "../methods/ia3.ts";
import { lora } from "../methods/lora.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { testRandom } from "../testing/check-gradient.ts";
import { openBuilder } from "../testing/run-graph.ts";
import { type Adapter, adapterOf } from "./adapter.ts";
import { combineAdapters } from "./combine.ts";
import { injectAdapter, trainableValues } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { makeMixed } from "./mixed.ts";
import { fromPeft, toPeft } from "./peft-files.ts";
import type { AdapterConfigInput } from "./select.ts";
import { findSites } from "./sites.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";
import { unwrappedNames } from "./wrapped-names.ts";

const random = testRandom(5);
const draw = (dims: readonly number[]): number[] =>
  Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1);

type Body = (g: Builder, weight: (name: string, dims: readonly number[]) => Value) => Value;

/** x [rows, 4] and ids [rows] to y. */
function modelOf(body: Body, opset = 17): Model {
  const g = createBuilder(opset);
  const weight = (name: string, dims: readonly number[]): Value =>
    g.initializer(name, tensorFrom("float32", dims, draw(dims)));
  g.output(body(g, weight), "y");
  return toModel(g.finish({ name: "test" }), opset);
}

const xOf = (g: Builder): Value => g.input("x", "float32", ["rows", 4]);
const idsOf = (g: Builder): Value => g.input("ids", "int64", ["rows"]);
const name = "moe.experts.up_proj";

/** What exporters and optimisers make of a product with matrices of experts. */
const forms: Record<string, { readonly body: Body; readonly shape: readonly number[]; readonly layout: string }> = {
  "picked, W·x": {
    body: (g, w) => g.matMul(g.gather(w(name, [3, 5, 4]), idsOf(g)), g.unsqueeze(xOf(g), [2])),
    shape: [3, 5, 4],
    layout: "out_in",
  },
  "picked, x·W": {
    body: (g, w) => g.matMul(g.unsqueeze(xOf(g), [1]), g.gather(w(name, [3, 4, 5]), idsOf(g))),
    shape: [3, 4, 5],
    layout: "in_out",
  },
  "picked by GatherND, transposed": {
    body: (g, w) => {
      const picked = g.gatherND(w(name, [3, 5, 4]), g.unsqueeze(idsOf(g), [-1]));
      return g.matMul(g.unsqueeze(xOf(g), [1]), g.transpose(picked, [0, 2, 1]));
    },
    shape: [3, 5, 4],
    layout: "out_in",
  },
  "all, x·Wᵀ in a fused product": {
    body: (g, w) => {
      const at = { transB: 1 };
      const factors = [g.unsqueeze(xOf(g), [0]), w(name, [3, 5, 4])];
      return g.op("FusedMatMul", factors, at, { domain: "com.microsoft" })[0] as Value;
    },
    shape: [3, 5, 4],
    layout: "out_in",
  },
  "all, by Einsum": {
    body: (g, w) => g.op("Einsum", [xOf(g), w(name, [3, 4, 5])], { equation: "bd,edh->beh" })[0] as Value,
    shape: [3, 4, 5],
    layout: "in_out",
  },
  "all, by Einsum, transposed and summed": {
    body: (g, w) => {
      const many = g.mul(g.unsqueeze(xOf(g), [1]), g.constant("float32", [1, 2, -3], [3, 1]));
      return g.op("Einsum", [w(name, [3, 5, 4]), many], { equation: "rhd, brd -> bh" })[0] as Value;
    },
    shape: [3, 5, 4],
    layout: "out_in",
  },
  "one in a loop, with its bias": {
    body: (g, w) => {
      const x = xOf(g);
      const parameter = w(name, [3, 5, 4]);
      const one = (e: number): Value => {
        const matrix = g.gather(parameter, g.constant("int64", e));
        return g.gemm(x, matrix, w(`bias.${e}`, [5]), { transB: true });
      };
      return g.add(one(0), one(2));
    },
    shape: [3, 5, 4],
    layout: "out_in",
  },
};

const config: AdapterConfigInput = { r: 2, alpha: 3, targetParameters: ["experts.up_proj"] } as AdapterConfigInput;

function adapterFor(model: Model): Adapter {
  const adapted = injectAdapter(model, { method: lora, config });
  return adapterOf(adapted, new Map(adapted.parameters.map((p) => [p.name, Float32Array.from(draw(p.shape))])));
}

const inputs: Feeds = {
  x: { type: "float32", dims: [2, 4], data: Float32Array.from([1, -2, 0.5, 3, -1, 0.25, 2, 1]) },
  ids: { type: "int64", dims: [2], data: BigInt64Array.from([2n, 0n]) },
};

async function run(model: Model, more: Feeds = {}): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const all: Feeds = { ...inputs, ...more };
  const { y } = await session.run(Object.fromEntries(session.inputNames.map((key) => [key, all[key]!])));
  await session.close();
  return y!.data as Float32Array;
}

const distance = (a: Float32Array, b: Float32Array): number =>
  a.reduce((w, v, i) => Math.max(w, Math.abs(v - (b[i] as number))), 0);

describe.each(Object.entries(forms))("%s", (_, { body, shape, layout }) => {
  const model = modelOf(body);

  test("is a site", () => {
    const sites = findSites(model).filter(({ kind }) => kind === "experts");
    expect(sites.map((s) => [s.name, s.inFeatures, s.outFeatures, s.weightShape, s.weightLayout])).toEqual([
      [name, 4, 5, shape, layout],
    ]);
  });

  test("an adapter is merged, fed and taken away", async () => {
    const adapter = adapterFor(model);
    const swappable = makeSwappable(model, { method: lora, config });
    const base = await run(model);
    const merged = await run(mergeAdapter(model, adapter));
    expect(distance(merged, base)).toBeGreaterThan(0.1);
    expect(distance(await run(swappable.model, adapterFeeds(swappable, adapter)), merged)).toBeLessThan(1e-5);
    expect(distance(await run(swappable.model, adapterFeeds(swappable, null)), base)).toBe(0);
  });
});

test.each(Object.entries(forms))("%s: gradients are central differences", async (_, { body }) => {
  const adapted = injectAdapter(modelOf(body), { method: lora, config });
  const { g } = adapted;
  const y = adapted.outputs.get("y") as Value;
  const loss = g.reduceSum(
    g.mul(y, y),
    y.shape.map((_, axis) => axis),
    false,
  );
  const wanted = trainableValues(adapted);
  const gradients = differentiate(g, [{ value: loss }], wanted);
  g.output(loss, "loss");
  for (const [i, d] of gradients.entries()) g.output(d, `d:${wanted[i]!.name}`);
  const session = await openBuilder(g);
  const [at, along] = [0, 1].map(() => new Map(adapted.parameters.map((p) => [p.name, draw(p.shape)])));
  const runAt = (h: number) => {
    const tensors = adapted.parameters.map(({ name: key, shape }) => {
      const data = Float32Array.from(at!.get(key)!, (v, i) => v + h * along!.get(key)![i]!);
      return [key, { type: "float32", dims: shape, data }] as const;
    });
    const all: Feeds = { ...inputs, ...Object.fromEntries(tensors) };
    return session.run(Object.fromEntries(session.inputNames.map((key) => [key, all[key]!])));
  };
  const found = await runAt(0);
  const analytic = wanted.reduce(
    (sum, { name: key }) =>
      sum + (found[`d:${key}`]!.data as Float32Array).reduce((s, v, i) => s + v * along!.get(key)![i]!, 0),
    0,
  );
  const lossAt = async (h: number): Promise<number> => Number((await runAt(h))["loss"]!.data[0]);
  const central = ((await lossAt(0.01)) - (await lossAt(-0.01))) / 0.02;
  await session.close();
  expect(Math.abs(analytic - central) / Math.abs(central)).toBeLessThan(5e-3);
});

test.each<[string, Body]>([
  ["one matrix", (g, w) => g.matMul(w("frequencies", [1, 5, 4]), g.unsqueeze(xOf(g), [2]))],
  ["rows of vectors", (g, w) => g.matMul(w("m.scale", [3, 1, 4]), g.transpose(xOf(g), [1, 0]))],
  [
    "entries picked along another axis",
    (g, w) => g.matMul(g.gather(w(name, [3, 5, 4]), idsOf(g), 1), g.transpose(xOf(g), [1, 0])),
  ],
  [
    "two axes picked",
    (g, w) => g.matMul(xOf(g), g.unsqueeze(g.gatherND(w(name, [3, 5, 4]), g.input("places", "int64", [1, 2])), [2])),
  ],
  [
    "matrices that something else reads too",
    (g, w) => {
      const picked = g.gather(w(name, [3, 5, 4]), idsOf(g));
      return g.add(g.matMul(picked, g.unsqueeze(xOf(g), [2])), g.reduceSum(picked, [2], true));
    },
  ],
])("%s is no site of experts", (_, body) => {
  expect(findSites(modelOf(body)).filter(({ kind }) => kind === "experts")).toEqual([]);
});

describe("what configs choose", () => {
  const model = modelOf((g, w) => {
    const picked = g.gather(w(name, [3, 5, 4]), idsOf(g));
    const made = g.squeeze(g.matMul(picked, g.unsqueeze(xOf(g), [2])), [2]);
    return g.gemm(made, w("shared.up_proj.weight", [6, 5]), null, { transB: true });
  });
  const attempt =
    (more: object, method: unknown = lora) =>
    (): unknown =>
      injectAdapter(model, { method: method as typeof lora, config: more });
  const sitesOf = (more: object): string[] =>
    injectAdapter(model, { method: lora, config: more }).plans.map(({ site }) => site.name);
  const error = (code: string, message: RegExp): unknown =>
    expect.objectContaining({ code, message: expect.stringMatching(message) });

  test("parameters and modules of one name are told apart", () => {
    expect(sitesOf({ targetModules: ["up_proj"] })).toEqual(["shared.up_proj"]);
    expect(sitesOf({ targetParameters: ["up_proj"] })).toEqual([name]);
    expect(sitesOf({ targetModules: "all-linear", targetParameters: ["moe.experts.up_proj"] })).toEqual([
      name,
      "shared.up_proj",
    ]);
  });

  test.each([
    [{ targetParameters: ["experts.up_porj"] }, "TARGETS_NOT_FOUND", /Did you mean "up_proj"|experts\.up_proj/],
    [{ targetParameters: ["shared.up_proj.weight"] }, "TARGETS_UNSUITABLE", /weight of a module of kind linear/],
    [{ targetModules: [name] }, "TARGETS_UNSUITABLE", /a parameter and no module: targetParameters/],
    [{ targetModules: ["shared.up_proj"], modulesToSave: ["experts"] }, "TARGETS_UNSUITABLE", /modulesToSave names/],
    [{ targetParameters: ["up_proj"], dropout: 0.1 }, "TARGETS_UNSUITABLE", /dropout is none of experts/],
    [{ targetParameters: ["up_proj"], useDora: true }, "TARGETS_UNSUITABLE", /useDora is one of linear/],
    [{ targetParameters: ["up_proj"], loraBias: true }, "TARGETS_UNSUITABLE", /loraBias is one of linear/],
    [{ targetParameters: ["up_proj"], freezeA: "projected" }, "TARGETS_UNSUITABLE", /projected/],
    [{ targetParameters: ["up_proj"], initLoraWeights: "pissa" }, "TARGETS_UNSUITABLE", /pissa/],
    [{ targetParameters: "up_proj" }, "CONFIG_INVALID", /targetParameters/],
  ])("%j is refused", (more, code, message) => {
    expect(attempt(more)).toThrow(error(code, message) as Error);
  });

  test("other methods say that they adapt none", () => {
    expect(attempt({ targetParameters: ["up_proj"] }, ia3)).toThrow(
      error("TARGETS_UNSUITABLE", /kind experts, and IA3 adapts/) as Error,
    );
  });

  test("experts in a fused operator are named as the reason", () => {
    const fused: Model = {
      ...model,
      graph: {
        ...model.graph,
        nodes: model.graph.nodes.map((node) =>
          node.op === "Gather" ? { ...node, op: "MoE", domain: "com.microsoft" } : node,
        ),
      },
    };
    expect(() => injectAdapter(fused, { method: lora, config, sites: [] })).toThrow(
      error("TARGETS_UNSUITABLE", /fused operator MoE/) as Error,
    );
  });

  test("a parameter that is read in another way is named with its readers", () => {
    const reduced = modelOf((g, w) =>
      g.mul(g.reduceSum(w(name, [3, 4, 5]), [0, 1], false), g.reduceSum(xOf(g), [0, 1], false)),
    );
    expect(() => injectAdapter(reduced, { method: lora, config })).toThrow(
      error("TARGETS_UNSUITABLE", /no factor of a product of matrices: it is read by ReduceSum/) as Error,
    );
  });

  test("adapters of experts are not combined, nor mixed in one batch", () => {
    const adapter = adapterFor(model);
    expect(() => combineAdapters([{ adapter, weight: 1 }])).toThrow(error("NOT_LORA", /experts/) as Error);
    expect(() => makeMixed(model, { one: adapter })).toThrow(
      error("ROWS_UNSUPPORTED", /order of their experts/) as Error,
    );
  });
});

describe("files", () => {
  /** Two parameters of one module, and a third one of another. */
  const model = modelOf((g, w) => {
    const ids = idsOf(g);
    const through = (x: Value, parameter: string, dims: readonly number[]): Value =>
      g.squeeze(g.matMul(g.unsqueeze(x, [1]), g.gather(w(parameter, dims), ids)), [1]);
    const wide = through(xOf(g), "0.experts.up_proj", [3, 4, 6]);
    const first = through(g.slice(wide, [0], [3], [1]), "0.experts.down_proj", [3, 3, 4]);
    return through(first, "1.experts.down_proj", [3, 4, 4]);
  });
  const all = { r: 2, targetParameters: ["down_proj", "up_proj"], rankPattern: { "0.experts.up_proj": 1 } };
  const adapted = injectAdapter(model, { method: lora, config: all });
  const adapter = adapterOf(
    adapted,
    new Map(adapted.parameters.map((p) => [p.name, Float32Array.from(draw(p.shape))])),
  );

  test("a module's wrappers are counted from its last parameter", () => {
    const { config: written, tensors } = toPeft(adapter);
    expect([written["target_modules"], written["target_parameters"]]).toEqual([[], ["down_proj", "up_proj"]]);
    expect([...tensors].map(([key, { dims }]) => [key, dims])).toEqual([
      ["0.experts.base_layer.lora_A.weight", [3, 4]],
      ["0.experts.base_layer.lora_B.weight", [6, 3]],
      ["0.experts.lora_A.weight", [6, 3]],
      ["0.experts.lora_B.weight", [4, 6]],
      ["1.experts.lora_A.weight", [6, 4]],
      ["1.experts.lora_B.weight", [4, 6]],
    ]);
  });

  test.each([false, true])("they come back to their parameters, swapped %j", async (swapExperts) => {
    const back = fromPeft(toPeft(adapter, { swapExperts }));
    expect(unwrappedNames(back, findSites(model)).tensors).toEqual(adapter.tensors);
    expect(await run(mergeAdapter(model, back))).toEqual(await run(mergeAdapter(model, adapter)));
  });

  test("wrappers the other way round are recognised by their shapes", () => {
    const { config: written, tensors } = toPeft(adapter);
    const turned = new Map(
      [...tensors].map(([key, tensor]) => [
        key.startsWith("1.")
          ? key
          : key.includes(".base_layer")
            ? key.replace(".base_layer", "")
            : key.replace("0.experts", "0.experts.base_layer"),
        tensor,
      ]),
    );
    const back = unwrappedNames(fromPeft({ config: written, tensors: turned }), findSites(model));
    expect(new Map([...back.tensors].sort())).toEqual(new Map([...adapter.tensors].sort()));
  });

  test("what fits no parameter is named", () => {
    const { config: written, tensors } = toPeft(adapter);
    const more = new Map([...tensors, ["0.experts.base_layer.base_layer.lora_A.weight", [...tensors.values()][0]!]]);
    expect(() => mergeAdapter(model, fromPeft({ config: written, tensors: more }))).toThrow(
      expect.objectContaining({ code: "ADAPTER_MISMATCH" }) as Error,
    );
  });
});
