import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { writeSafetensors } from "../formats/safetensors/write.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { kronA } from "../methods/kron-a.ts";
import { attention } from "../models/encoder-block.ts";
import { weightReader } from "../models/weights.ts";
import type { Model, TensorData } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { createRandom } from "../random/random.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Adapter } from "./adapter.ts";
import { readDiffuseKronA, writeDiffuseKronA } from "./diffuse-krona.ts";
import { mergeAdapter } from "./merge.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "krona-"));
});
afterAll(() => rm(folder, { recursive: true }));

const [WIDTH, TEXT, A1, A2] = [12, 6, 2, 3];
const path = "down_blocks.0.attentions.0.transformer_blocks.0.attn2";
const modules = { to_q: WIDTH, to_k: TEXT, to_v: TEXT, to_out: WIDTH } as const;
type Module = keyof typeof modules;
const siteOf = (module: Module): string => `${path}.${module === "to_out" ? "to_out.0" : module}`;
const random = createRandom(3);
const draw = (...dims: number[]): TensorData =>
  tensorFrom("float32", dims, random.fillNormal(new Float32Array(dims.reduce((a, b) => a * b, 1)), 0, 0.5));

/** As the authors' code saves it: down [a2, a1], up [b1, b2]. */
const file = new Map<string, TensorData>(
  Object.entries(modules).flatMap(([module, width]) => [
    [`unet.${path}.processor.${module}_lora.down.weight`, draw(A2, A1)] as const,
    [`unet.${path}.processor.${module}_lora.up.weight`, draw(WIDTH / A1, width / A2)] as const,
  ]),
);
const weights = new Map<string, TensorData>(
  Object.entries(modules).flatMap(([module, width]) => [
    [`${siteOf(module as Module)}.weight`, draw(WIDTH, width)] as const,
    [`${siteOf(module as Module)}.bias`, draw(WIDTH)] as const,
  ]),
);

function unet(own: ReadonlyMap<string, TensorData>): Model {
  const g = createBuilder(21);
  const w = weightReader(g, own);
  const x = { rows: g.input("x", "float32", ["4*batch", WIDTH]), tokens: 4, width: WIDTH };
  const text = { rows: g.input("text", "float32", ["2*batch", TEXT]), tokens: 2, width: TEXT };
  const names = { query: siteOf("to_q"), key: siteOf("to_k"), value: siteOf("to_v"), output: siteOf("to_out") };
  const sizes = { hiddenSize: WIDTH, heads: 2, attentionDropout: 0 };
  g.output(attention(g, w, names, x, text, null, 1, sizes), "y");
  w.check();
  return toModel(g.finish({ name: "unet" }), 21);
}

/** Change of a weight as the published layer computes outputs: x as [b2, a2] blocks of its reshape, up · (Xᵀ · down), flattened. */
function published(module: Module): number[] {
  const half = (name: string): Float32Array =>
    toFloat32Array(file.get(`unet.${path}.processor.${module}_lora.${name}.weight`) as TensorData);
  const [down, up] = [half("down"), half("up")];
  const [inFeatures, b1, b2] = [modules[module], WIDTH / A1, modules[module] / A2];
  const change = new Array<number>(WIDTH * inFeatures).fill(0);
  for (let column = 0; column < inFeatures; column++) {
    const [q, p] = [Math.floor(column / b2), column % b2]; // x = e_column, as [a2, b2]: row q, column p
    for (let i = 0; i < b1; i++)
      for (let j = 0; j < A1; j++)
        change[(i * A1 + j) * inFeatures + column] = (up[i * b2 + p] as number) * (down[q * A1 + j] as number);
  }
  return change;
}

async function run(model: Model): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(model));
  const values = createRandom(9);
  const feed = (rows: number, width: number) => ({
    ...({ type: "float32", dims: [rows, width] } as const),
    data: values.fillNormal(new Float32Array(rows * width), 0, 1),
  });
  const { y } = await session.run({ x: feed(4, WIDTH), text: feed(2, TEXT) });
  await session.close();
  return y?.data as Float32Array;
}

const written = async (name: string, tensors: Iterable<readonly [string, TensorData]>): Promise<string> => {
  const at = join(folder, name);
  await writeSafetensors(at, tensors);
  return at;
};

test("a file of the authors' code, merged, is the published layer at every projection", async () => {
  const adapter = await readDiffuseKronA(await written("own.safetensors", file));
  expect(adapter.config).toMatchObject({ a1: A1, a2: A2, layout: "official", scale: 1 });
  const changed = new Map(weights);
  for (const module of Object.keys(modules) as Module[]) {
    const name = `${siteOf(module)}.weight`;
    const weight = weights.get(name) as TensorData;
    const change = published(module);
    const sum = toFloat32Array(weight).map((v, i) => v + (change[i] as number));
    changed.set(name, tensorFrom("float32", weight.dims, sum));
  }
  const [merged, wanted, base] = [mergeAdapter(unet(weights), adapter), unet(changed), unet(weights)];
  const [found, expected, before] = [await run(merged), await run(wanted), await run(base)];
  expect(Math.max(...found.map((v, i) => Math.abs(v - (expected[i] as number))))).toBeLessThan(1e-5);
  expect(Math.max(...found.map((v, i) => Math.abs(v - (before[i] as number))))).toBeGreaterThan(0.1);
});

test("written again it has the same names and values", async () => {
  const adapter = await readDiffuseKronA(await written("again.safetensors", file));
  const at = join(folder, "written.safetensors");
  await writeDiffuseKronA(at, adapter);
  const { tensors } = await readSafetensors(at);
  expect([...tensors.keys()].sort()).toEqual([...file.keys()].sort());
  for (const [name, tensor] of file) {
    expect(tensors.get(name)?.dims).toEqual(tensor.dims);
    expect(toFloat32Array(tensors.get(name) as TensorData)).toEqual(toFloat32Array(tensor));
  }
});

test("an adapter of a text encoder goes by the names of linear layers", async () => {
  const key = (half: string) =>
    `text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.${half}.weight`;
  const own = new Map([...file, [key("down"), draw(A2, A1)], [key("up"), draw(4, 2)]] as const);
  const adapter = await readDiffuseKronA(await written("text.safetensors", own), { part: "text_encoder" });
  expect([...adapter.tensors.keys()]).toEqual([
    "text_model.encoder.layers.0.self_attn.q_proj.krona_A",
    "text_model.encoder.layers.0.self_attn.q_proj.krona_B",
  ]);
  const at = join(folder, "text-written.safetensors");
  await writeDiffuseKronA(at, adapter, { part: "text_encoder" });
  expect([...(await readSafetensors(at)).tensors.keys()].sort()).toEqual([key("down"), key("up")].sort());
});

describe("refused", () => {
  const pair = (module: Module, down: TensorData, up: TensorData) =>
    [
      [`unet.${path}.processor.${module}_lora.down.weight`, down],
      [`unet.${path}.processor.${module}_lora.up.weight`, up],
    ] as const;
  const [first, second] = [...file] as [[string, TensorData], [string, TensorData]];
  test.each<[string, readonly (readonly [string, TensorData])[], string, RegExp]>([
    ["no module", [["unet.conv_in.weight", draw(2, 2)]], "ADAPTER_MISMATCH", /found none among 1/],
    ["half a module", [first], "ADAPTER_MISMATCH", /attn2\.to_q.*found down alone/],
    ["no matrix", [[first[0], draw(2, 3, 1)], second], "ADAPTER_MISMATCH", /received \[2, 3, 1\]/],
    [
      "factors of two sizes",
      [...pair("to_q", draw(3, 2), draw(6, 4)), ...pair("to_k", draw(2, 3), draw(4, 3))],
      "ADAPTER_MISMATCH",
      /found 3 x 2, 2 x 3/,
    ],
    ["what LoRA could be too", pair("to_q", draw(4, 6), draw(2, 4)), "ADAPTER_AMBIGUOUS", /as well as/],
  ])("%s", async (name, tensors, code, message) => {
    const at = await written(`${name}.safetensors`, tensors);
    await expect(readDiffuseKronA(at)).rejects.toThrow(expect.objectContaining({ code }));
    await expect(readDiffuseKronA(at)).rejects.toThrow(message);
  });

  test("what could be LoRA is read where the caller says what it is", async () => {
    const at = await written("said.safetensors", pair("to_q", draw(4, 6), draw(2, 4)));
    expect((await readDiffuseKronA(at, { type: "KRONA" })).config).toMatchObject({ a1: 6, a2: 4 });
  });

  const adapter = (config: object, site = siteOf("to_q")): Adapter => ({
    ...{ type: kronA.type, config: { ...{ a1: 2, a2: 3, layout: "official", scale: 1 }, ...config } as never },
    tensors: new Map([[`${site}.krona_A`, { dims: [2, 3], data: new Float32Array(6) }]]),
  });
  test.each<[string, Adapter, string]>([
    ["the paper's layout", adapter({ layout: "paper" }), "NOT_KRONA"],
    ["a factor", adapter({ scale: 2 }), "NOT_KRONA"],
    ["another method", { ...adapter({}), type: "LOKR" }, "NOT_KRONA"],
    ["modules saved whole", adapter({ modulesToSave: ["conv_out"] }), "NOT_KRONA"],
    ["another module than a projection", adapter({}, "down_blocks.0.resnets.0.conv1"), "ADAPTER_MISMATCH"],
  ])("writing %s", async (_, given, code) => {
    await expect(writeDiffuseKronA(join(folder, "no.safetensors"), given)).rejects.toThrow(
      expect.objectContaining({ code }),
    );
  });
});
