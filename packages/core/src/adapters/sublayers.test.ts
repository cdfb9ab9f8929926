import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Value } from "../onnx/ir.ts";
import { readModel } from "../onnx/read.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import type { Site } from "./site.ts";
import { findSites } from "./sites.ts";
import { tinyModel } from "./testing/tiny-model.ts";

const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));

/** "module: kind norm" of what ends a branch, and "module> kind" of what begins one, the numbers of layers left out. */
const summary = (sites: readonly Site[]): string[] => [
  ...new Set(
    sites.flatMap(({ name, sublayer }) => {
      if (!sublayer) return [];
      const short = name.replaceAll(/\d+/g, "*");
      return [sublayer.place === "last" ? `${short}: ${sublayer.kind} ${sublayer.norm}` : `${short}> ${sublayer.kind}`];
    }),
  ),
];

describe("exports of transformers", () => {
  test.each([
    ["models/bert/onnx/model_torchscript.onnx", "bert.encoder.layer.*."],
    ["models/bert/onnx/model_extended.onnx", "bert.encoder.layer.*."],
    ["models/bert/onnx/model_optimized.onnx", "bert.encoder.layer.*."],
    ["models/bert/onnx/model_dynamo.onnx", "bert.encoder.layer.*."],
  ])("%s: norms behind the sums", async (file, at) => {
    expect(summary(findSites(await readModel(join(golden, file)))).sort()).toEqual(
      [
        ...["query", "key", "value"].map((name) => `${at}attention.self.${name}> attention`),
        `${at}attention.output.dense: attention after`,
        `${at}intermediate.dense> feedForward`,
        `${at}output.dense: feedForward after`,
      ].sort(),
    );
  });

  test.each(["model_torchscript.onnx", "model_torchscript_opset17.onnx", "model_dynamo.onnx", "model_optimized.onnx"])(
    "GPT-2, %s: norms of the branches, packed projections, the last sum before a norm",
    async (file) => {
      expect(summary(findSites(await readModel(join(golden, "models/gpt2/onnx", file))))).toEqual([
        "transformer.h.*.attn.c_attn> attention",
        "transformer.h.*.attn.c_proj: attention before",
        "transformer.h.*.mlp.c_fc> feedForward",
        "transformer.h.*.mlp.c_proj: feedForward before",
      ]);
    },
  );

  test("LLaMA: gated feed-forward, casts around norms", async () => {
    const sites = findSites(await readModel(join(golden, "models/llama/onnx/model_torchscript.onnx")));
    expect(summary(sites)).toEqual([
      ...["q_proj", "k_proj", "v_proj"].map((name) => `model.layers.*.self_attn.${name}> attention`),
      "model.layers.*.self_attn.o_proj: attention before",
      ...["gate_proj", "up_proj"].map((name) => `model.layers.*.mlp.${name}> feedForward`),
      "model.layers.*.mlp.down_proj: feedForward before",
    ]);
  });

  test("T5: attention to another sequence is a kind of its own", async () => {
    const sites = findSites(await readModel(join(golden, "exports/t5/model_torchscript17.onnx")));
    const ends = summary(sites).filter((line) => line.includes(":"));
    expect(ends).toEqual([
      "encoder.block.*.layer.*.SelfAttention.o: attention before",
      "encoder.block.*.layer.*.DenseReluDense.wo: feedForward before",
      "decoder.block.*.layer.*.SelfAttention.o: attention before",
      "decoder.block.*.layer.*.EncDecAttention.o: crossAttention before",
      "decoder.block.*.layer.*.DenseReluDense.wo: feedForward before",
    ]);
  });

  test("ALBERT: a layer that is applied several times has a branch per use", async () => {
    const sites = findSites(await readModel(join(golden, "exports/albert/model_torchscript17.onnx")));
    const last = sites.find((site) => site.name.endsWith("ffn_output"))!;
    expect(last.sublayer).toMatchObject({ kind: "feedForward", norm: "after" });
    expect(new Set(last.uses.map((use) => use.sublayer?.residual)).size).toBe(last.uses.length);
    expect(last.uses.length).toBeGreaterThan(1);
  });

  test("a network of convolutions has none", async () => {
    expect(summary(findSites(await readModel(join(golden, "exports/resnet/model_torchscript14.onnx"))))).toEqual([]);
  });
});

test("values of a branch: what it reads, what it is added to, its result behind the module", () => {
  const site = findSites(tinyModel()).find((s) => s.name === "encoder.layer.0.attention.output.dense")!;
  const { input, residual, output, norm } = site.uses[0]!.sublayer!;
  expect(input).toBe(residual);
  expect(output).not.toBe(site.output); // behind a Reshape
  expect(norm.map((node) => node.op)).toEqual(["LayerNormalization"]);
});

/** x and linear layers on it; `build` puts them together. */
function sitesOf(
  build: (x: Value, linear: (v: Value, name: string) => Value, g: ReturnType<typeof createBuilder>) => Value,
): string[] {
  const g = createBuilder();
  const x = g.input("x", "float32", ["rows", 4]);
  const linear = (v: Value, name: string): Value =>
    g.matMul(v, g.initializer(`${name}.weight`, tensorFrom("float32", [4, 4], new Array<number>(16).fill(0.1))));
  g.output(build(x, linear, g), "y");
  return summary(findSites(toModel(g.finish(), 21)));
}

describe("structure", () => {
  test("branches beside each other that are added up (GPT-J)", () => {
    expect(
      sitesOf((x, linear, g) =>
        g.add(g.add(linear(g.relu(linear(x, "a")), "b"), linear(g.relu(linear(x, "c")), "d")), x),
      ),
    ).toEqual(["a> feedForward", "b: feedForward none", "c> feedForward", "d: feedForward none"]);
    // x + b first, then d: d's other summand is a sum that holds what d came from.
    expect(
      sitesOf((x, linear, g) =>
        g.add(g.add(x, linear(g.relu(linear(x, "a")), "b")), linear(g.relu(linear(x, "c")), "d")),
      ),
    ).toContain("d: feedForward none");
  });

  test("a scale of the layer in front of the sum", () => {
    const scale = (g: ReturnType<typeof createBuilder>): Value =>
      g.initializer("s", tensorFrom("float32", [4], [1, 2, 3, 4]));
    expect(sitesOf((x, linear, g) => g.add(x, g.mul(linear(g.relu(linear(x, "a")), "b"), scale(g))))).toContain(
      "b: feedForward none",
    );
  });

  test.each([
    [
      "a result that is read twice",
      (x: Value, l: (v: Value, n: string) => Value, g: ReturnType<typeof createBuilder>) => {
        const b = l(g.relu(l(x, "a")), "b");
        return g.add(g.add(x, b), g.relu(b));
      },
    ],
    [
      "a sum of two branches without a stream",
      (x: Value, l: (v: Value, n: string) => Value, g: ReturnType<typeof createBuilder>) =>
        g.add(g.relu(l(x, "a")), l(x, "b")),
    ],
    [
      "a non-linearity in front of the sum",
      (x: Value, l: (v: Value, n: string) => Value, g: ReturnType<typeof createBuilder>) => g.add(x, g.relu(l(x, "b"))),
    ],
  ] as const)("%s ends no branch", (_, build) => {
    expect(sitesOf(build).filter((line) => line.includes(":"))).toEqual([]);
  });
});
