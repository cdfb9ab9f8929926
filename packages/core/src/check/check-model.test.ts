import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { type AttributeInput, graphAttribute } from "../graph/attributes.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import { buildSubgraph } from "../graph/subgraph.ts";
import { toModel } from "../graph/to-model.ts";
import type { Model, Value } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { randomWeight } from "../testing/random-weight.ts";
import { checkFile } from "./check-file.ts";
import { checkModel } from "./check-model.ts";
import { formatCheck } from "./format-check.ts";

const options = { threads: 1, batch: 2, tokens: 8 } as const;
const check = (model: Model, runtime: Runtime = onnxruntimeNode) => checkModel(model, runtime, options);

/** x [batch, 4] through one linear layer, and what `tail` makes of it. */
function oneLayer(tail: (g: Builder, y: Value) => Value): Model {
  const g = createBuilder(17);
  const y = g.matMul(g.input("x", "float32", ["batch", 4]), randomWeight(g, "layer.weight", [4, 6]));
  g.output(tail(g, y), "y");
  return toModel(g.finish(), 17);
}

test("a good model is ready, and every kind of its sites was compared", async () => {
  const found = await check(tinyModel());
  expect(found.reasons).toEqual([]);
  expect(found.verdict).toBe("ready");
  expect(found.kinds.map(({ kind, sites }) => [kind, sites])).toEqual([
    ["linear", 13],
    ["norm", 4],
    ["embedding", 1],
  ]);
  for (const { gradients, merged } of found.kinds) {
    expect(gradients?.error).toBeLessThan(1e-3);
    expect(merged).toBeLessThan(1e-5);
  }
  const text = formatCheck(found);
  expect(text).toContain("encoder.layer.*.attention.self.query");
  expect(text).toMatch(/a step at batch 2, length 8 took [\d.]+ ms here\nverdict: ready\n$/);
});

test("a wrong gradient is not trainable", async () => {
  const wrong: Runtime = {
    ...onnxruntimeNode,
    async open(bytes, opened) {
      const session = await onnxruntimeNode.open(bytes, opened);
      return {
        ...session,
        async run(feeds, names) {
          const result = await session.run(feeds, names);
          for (const [name, tensor] of Object.entries(result)) {
            if (!name.startsWith("check.gradient:")) continue;
            result[name] = { ...tensor, data: (tensor.data as Float32Array).map((x) => 1.02 * x) };
          }
          return result;
        },
      };
    },
  };
  const found = await check(tinyModel(), wrong);
  expect(found.verdict).toBe("not trainable");
  expect(found.reasons[0]).toMatch(/linear sites: gradients differ from finite differences by (1\.9|2\.0)/);
});

test("an operator that nobody knows is named, with its node", async () => {
  const model = tinyModel();
  const at = model.graph.nodes.findIndex((n) => n.op === "Tanh");
  const nodes = model.graph.nodes.map((n, i) =>
    i === at ? { ...n, op: "Mystery", domain: "org.example", name: "odd" } : n,
  );
  const found = await check({
    ...model,
    opsets: new Map([...model.opsets, ["org.example", 1]]),
    graph: { ...model.graph, nodes },
  });
  expect(found.verdict).toBe("not trainable");
  expect(found.unknownOperators).toEqual([{ operator: "org.example::Mystery", count: 1, example: "odd" }]);
  expect(formatCheck(found)).toContain("operators the engine does not know: org.example::Mystery x1 (odd)");
});

test.each([
  [
    "indices alone",
    (g: Builder, y: Value) => g.cast(g.op("ArgMax", [y], { axis: -1 })[0] as Value, "float32"),
    /1 of 1 sites have no derivative/,
  ],
  [
    "integers alone",
    (g: Builder, y: Value) => g.op("ArgMax", [y], { axis: -1 })[0] as Value,
    /no floating-point output depends on any/,
  ],
  ["NaN", (g: Builder, y: Value) => g.log(g.sub(g.mul(g.mul(y, y), -1), 1)), /NaN or infinity on made-up inputs/],
] as const)("a model that puts out %s is not trainable", async (_, tail, reason) => {
  const found = await check(oneLayer(tail));
  expect(found.verdict).toBe("not trainable");
  expect(found.reasons.join("; ")).toMatch(reason);
});

test("a model without weights is not trainable", async () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", ["batch", 4]);
  g.output(g.mul(x, x), "y");
  const found = await check(toModel(g.finish(), 17));
  expect(found).toMatchObject({ verdict: "not trainable", reasons: [expect.stringContaining("no linear layer")] });
});

test("a batch that the exporter wrote into a Reshape is freed, and the node is named", async () => {
  const model = oneLayer((g, y) => g.op("Reshape", [y, g.ints([2, 3, 2])], {}, { name: "/split/Reshape" })[0] as Value);
  const found = await checkModel(model, onnxruntimeNode, { ...options, batch: 3 });
  expect(found).toMatchObject({ verdict: "ready", reasons: [], step: { batch: 3 } });
  expect(found.freed).toEqual([{ symbol: "batch", value: 2, nodes: ["/split/Reshape"] }]);
  expect(formatCheck(found)).toContain(
    'size freed: the file itself runs with batch 2 alone, which the exporter wrote into "/split/Reshape"; here it may be any',
  );
});

test.each([
  ["batch", ["batch", 4], [2, 6], 2, 3],
  ["length", ["batch", "tokens", 4], [9, 6], 9, 12],
] as const)(
  "a %s that the exporter wrote into a table is a limit, and the node is named",
  async (axis, shape, table, size, refused) => {
    const g = createBuilder(17);
    const y = g.matMul(g.input("x", "float32", shape), randomWeight(g, "layer.weight", [4, 6]));
    g.output(g.op("Add", [y, randomWeight(g, "positions", table)], {}, { name: "/positions/Add" })[0] as Value, "y");
    const found = await check(toModel(g.finish(), 17));
    expect(found.verdict).toBe("ready with limits");
    expect(found.freed).toEqual([]);
    expect(found.reasons).toEqual([
      `the ${axis} is written into the graph: it runs with ${size}, node "/positions/Add" refuses ${refused}`,
    ]);
  },
);

test("rows that are mixed by a folded batch are a limit", async () => {
  // [-1, 12] puts two rows of six side by side: every size that is even runs, and rows see each other.
  const mixed = oneLayer((g, y) => {
    const pairs = g.softmax(g.op("Reshape", [y, g.ints([1, -1])])[0] as Value);
    return g.op("Reshape", [pairs, g.ints([-1, 6])])[0] as Value;
  });
  const found = await check(mixed);
  expect(found.verdict).toBe("ready with limits");
  expect(found.reasons).toEqual([expect.stringContaining('rows of a batch change each other in "y"')]);
});

test("fixed sizes are a limit", async () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", [1, 4]);
  g.output(g.relu(g.matMul(x, randomWeight(g, "layer.weight", [4, 6]))), "y");
  const found = await check(toModel(g.finish(), 17));
  expect(found.verdict).toBe("ready with limits");
  expect(found.reasons).toEqual(["the file fixes its sizes: every run takes x [1, 4]"]);
});

test("sites behind an operator without a rule are a limit, the others are checked", async () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", ["batch", 4]);
  const first = g.matMul(x, randomWeight(g, "first.weight", [4, 6]));
  const rounded = g.cast(g.op("ArgMax", [first], { axis: -1, keepdims: 1 })[0] as Value, "float32");
  g.output(g.matMul(g.mul(x, rounded), randomWeight(g, "second.weight", [4, 3])), "y");
  const found = await check(toModel(g.finish(), 17));
  expect(found.kinds.map(({ kind, sites }) => [kind, sites])).toEqual([["linear", 1]]);
  expect(found.verdict).toBe("ready with limits");
  expect(found.reasons[0]).toMatch(/1 of 2 sites have no derivative/);
});

test("files that cannot be read are not trainable, and the reason says why", async () => {
  const folder = await mkdtemp(join(tmpdir(), "onnx-peft-"));
  try {
    const bytes = encodeModel(tinyModel());
    const path = join(folder, "model.onnx");
    for (const content of [bytes.subarray(0, bytes.length / 2), new Uint8Array(0), Buffer.from("no model")]) {
      await writeFile(path, content);
      const found = await checkFile(path, onnxruntimeNode, options);
      expect(found.verdict).toBe("not trainable");
      expect(found.reasons).toHaveLength(1);
    }
    expect((await checkFile(join(folder, "absent.onnx"), onnxruntimeNode)).verdict).toBe("not trainable");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

/** A table of positions, and a convolution over an image of a free size: only one side fits. */
function imageModel(g: Builder, rows: number): Value {
  const pixels = g.input("pixel_values", "float32", ["batch", "channels", "height", "width"]);
  const kernel = randomWeight(g, "patch.weight", [4, 3, 8, 8]);
  const patches = g.op("Conv", [pixels, kernel], { strides: [8, 8] })[0] as Value;
  const list = g.transpose(g.op("Reshape", [patches, g.ints([0, 4, -1])])[0] as Value, [0, 2, 1]);
  return g.add(list, randomWeight(g, "positions.weight", [1, rows, 4]));
}

test("the side of an image is found by the table of its positions", async () => {
  const g = createBuilder(17);
  g.output(g.matMul(imageModel(g, 9), randomWeight(g, "layer.weight", [4, 6])), "y");
  const found = await check(toModel(g.finish(), 17));
  expect(found).toMatchObject({ verdict: "ready", sizes: { batch: 2, length: 24 } });
});

test("where no size works, none is tried that is too large to hold", async () => {
  const g = createBuilder(17);
  g.output(g.matMul(imageModel(g, 7), randomWeight(g, "layer.weight", [4, 6])), "y");
  const found = await check(toModel(g.finish(), 17));
  expect(found.verdict).toBe("not trainable");
  expect(found.reasons.join()).toMatch(/Add/);
});

test("images beside texts have a size of their own", async () => {
  const g = createBuilder(17);
  const image = g.reduceMean(imageModel(g, 4), [1], false);
  const ids = g.input("input_ids", "int64", ["batch", "tokens"]);
  const states = g.add(
    g.gather(randomWeight(g, "words.weight", [20, 4]), ids),
    g.slice(randomWeight(g, "places.weight", [5, 4]), [0], [5], [0]),
  );
  g.output(g.matMul(g.mul(g.reduceMean(states, [1], false), image), randomWeight(g, "layer.weight", [4, 6])), "y");
  const found = await check(toModel(g.finish(), 17));
  expect(found.sizes).toEqual({ batch: 2, length: 5, extent: 16 });
});

test("which branch to train must be said where nothing tells", async () => {
  const g = createBuilder(17);
  const [x, c] = [g.input("x", "float32", ["batch", 4]), g.input("c", "bool", [1])];
  const branchOf = (name: string): AttributeInput =>
    graphAttribute(
      buildSubgraph(g, name, [], (child) => [
        child.matMul(child.value(x.name), randomWeight(child, `${name}.weight`, [4, 6])),
      ]),
    );
  g.output(g.op("If", [c], { then_branch: branchOf("yes"), else_branch: branchOf("no") })[0] as Value, "y");
  const model = toModel(g.finish(), 17);
  const found = await check(model);
  expect(found.verdict).toBe("not trainable");
  expect(found.reasons.join()).toMatch(/which branch to train is not known.*bind c to true or false/);
  const bound = await checkModel(model, onnxruntimeNode, { ...options, bind: { c: true } });
  expect(bound).toMatchObject({ verdict: "ready", sites: [{ name: "yes" }] });
});
