import { describe, expect, test } from "vitest";
import { frozenSite } from "../adapters/operands.ts";
import { findSites } from "../adapters/sites.ts";
import { tensorAttribute } from "../graph/attributes.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { ElementType } from "../onnx/element-type.ts";
import type { Graph, Model, Node, Value } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { randomFloats } from "../quantization/testing/packed-forms.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import type { Feeds } from "../runtime/runtime.ts";
import { halfToFloat } from "./half-to-float.ts";
import { lowerModel } from "./lower-model.ts";

const size = 64;

/**
 * ids -> table [70, 64] -> + bias -> linear -> relu -> times its own weight again (transposed) -> + x; all in 16 bits but for a
 * square root that is computed in float32 between two casts, as converters write it. Tables of 4,096 numbers and more stay.
 */
function halfModel(type: "float16" | "bfloat16", io: ElementType): Model {
  const g = createBuilder(17);
  const weight = (name: string, dims: number[], seed: number): Value =>
    g.initializer(
      name,
      tensorFrom(
        type,
        dims,
        randomFloats(
          dims.reduce((a, b) => a * b, 1),
          seed,
          0.3,
        ),
      ),
    );
  const own = (v: Value): Value => g.op("Cast", [v], { to: type === "float16" ? 10 : 16 })[0] as Value;
  const ids = g.input("ids", "int64", ["batch"]);
  const x = g.input("x", io, ["batch", size]);
  const table = weight("embed.weight", [70, size], 1);
  const w = weight("dense.weight", [size, size], 2);
  const rows = g.op("Gather", [table, ids], { axis: 0 }, { name: "/embed/Gather" })[0] as Value;
  const shifted = g.add(rows, weight("bias", [size], 3));
  const [h] = g.op(
    "MatMul",
    [shifted, g.op("Transpose", [w], { perm: [1, 0] })[0] as Value],
    {},
    { name: "/dense/MatMul" },
  );
  const positive = own(g.sqrt(g.cast(g.mul(h!, h!), "float32")));
  const again = g.matMul(positive, w);
  const [filler] = g.op("ConstantOfShape", [g.op("Shape", [ids])[0] as Value], {
    value: tensorAttribute(tensorFrom(type, [1], [0.5])),
  });
  const sum = g.add(g.add(again, io === type ? x : own(x)), g.unsqueeze(filler!, [1]));
  g.output(io === type ? sum : (g.op("Cast", [sum], { to: 1 })[0] as Value), "y");
  return toModel(g.finish(), 17);
}

const bits = (type: ElementType, values: Float32Array) => tensorFrom(type, [values.length], values).data;

function feedsOf(io: ElementType): Feeds {
  const x = randomFloats(3 * size, 5);
  const data = io === "float32" ? x : new Uint16Array(bits(io, x).slice().buffer);
  return {
    ids: { type: "int64", dims: [3], data: BigInt64Array.from([4n, 0n, 69n]) },
    x: { type: io, dims: [3, size], data },
  };
}

async function run(model: Model, io: ElementType): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const { y } = await session.run(feedsOf(io));
  await session.close();
  const { type, dims, data } = y!;
  expect(type).toBe(io);
  return toFloat32Array({ type, dims, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) });
}

describe.each([
  ["float16", "float16"],
  ["float16", "float32"],
] as const)("%s with inputs and outputs in %s", (type, io) => {
  const model = halfModel(type, io);

  test("computes the same, up to rounding, and keeps the types of inputs and outputs", async () => {
    const lowered = halfToFloat(model);
    expect(lowered.graph.inputs).toEqual(model.graph.inputs);
    expect(lowered.graph.outputs.map((v) => v.type)).toEqual([io]);
    const [before, after] = [await run(model, io), await run(lowered, io)];
    after.forEach((v, i) => {
      expect(Math.abs(v - before[i]!)).toBeLessThan(0.02 * (1 + Math.abs(v)));
    });
    expect(after.some((v) => v !== 0)).toBe(true);
  });

  test("large weights stay in 16 bits, everything else is float32", () => {
    const { graph } = halfToFloat(model);
    const types = new Map([...graph.initializers].map(([name, t]) => [name, t.type]));
    expect(types.get("embed.weight")).toBe(type);
    expect(types.get("dense.weight")).toBe(type);
    expect(types.get("bias")).toBe("float32");
    expect(graph.initializers.get("dense.weight")).toBe(model.graph.initializers.get("dense.weight"));
    const toHalf = graph.nodes.filter((n) => n.op === "Cast" && n.attributes["to"]?.value !== 1);
    // Those to int64 belong to ties; the only one to 16 bits makes an output.
    expect(toHalf.filter((n) => n.attributes["to"]?.value !== 7)).toHaveLength(io === "float32" ? 0 : 1);
  });

  test("sites keep their names, kinds and weights", () => {
    const sites = findSites(model);
    expect(sites.map(({ name, kind, weightShape }) => [name, kind, weightShape])).toEqual([
      ["embed", "embedding", [70, size]],
      ["dense", "linear", [size, size]],
    ]);
    const dense = model.graph.initializers.get("dense.weight")!;
    expect(frozenSite(lowerModel(model).graph, sites[1]!).weight()).toEqual(toFloat32Array(dense));
  });

  test("is idempotent, and leaves other models alone", () => {
    const lowered = halfToFloat(model);
    expect(halfToFloat(lowered)).toBe(lowered);
    expect(halfToFloat({ ...lowered })).not.toBe(model);
    const g = createBuilder(17);
    g.output(g.relu(g.input("x", "float32", [2])), "y");
    const plain = toModel(g.finish(), 17);
    expect(halfToFloat(plain)).toBe(plain);
  });
});

test("bfloat16, which ONNX Runtime does not multiply on CPUs, runs", async () => {
  const model = halfModel("bfloat16", "float32");
  const reference = halfModel("float16", "float32");
  const [found, expected] = [await run(halfToFloat(model), "float32"), await run(halfToFloat(reference), "float32")];
  found.forEach((v, i) => {
    expect(Math.abs(v - expected[i]!)).toBeLessThan(0.05 * (1 + Math.abs(v)));
  });
});

test("branches of If compute in float32 too, with weights of the graph around them", async () => {
  const half = { type: "float16" as const, shape: ["n", size] };
  const node = (op: string, inputs: string[], output: string, attributes: Node["attributes"] = {}): Node => ({
    ...{ name: output, op, domain: "", inputs, outputs: [output], attributes, metadata: {} },
  });
  const branch = (name: string, op: string): Graph => ({
    name,
    nodes: [node("MatMul", ["h", "w"], `${name}:product`), node(op, [`${name}:product`, "bias"], `${name}:y`)],
    inputs: [],
    outputs: [{ name: `${name}:y`, ...half }],
    initializers: new Map(),
    values: new Map(),
  });
  const attributes = {
    then_branch: { type: "graph", value: branch("then", "Add") } as const,
    else_branch: { type: "graph", value: branch("else", "Sub") } as const,
  };
  const nodes = [node("Cast", ["x"], "h", { to: { type: "int", value: 10 } }), node("If", ["choice"], "z", attributes)];
  const graph: Graph = {
    name: "g",
    nodes: [...nodes, node("Cast", ["z"], "y", { to: { type: "int", value: 1 } })],
    inputs: [
      { name: "x", type: "float32", shape: ["n", size] },
      { name: "choice", type: "bool", shape: [] },
    ],
    outputs: [{ name: "y", type: "float32", shape: ["n", size] }],
    initializers: new Map([
      ["w", tensorFrom("float16", [size, size], randomFloats(size * size, 2, 0.3))],
      ["bias", tensorFrom("float16", [size], randomFloats(size, 3))],
    ]),
    values: new Map(),
  };
  const model = toModel(graph, 17);
  const lowered = halfToFloat(model);
  expect(lowered.graph.initializers.get("w")).toBe(graph.initializers.get("w"));
  for (const choice of [0, 1]) {
    const results = await Promise.all(
      [model, lowered].map(async (m) => {
        const session = await onnxruntimeNode.open(encodeModel(m), { threads: 1 });
        const { y } = await session.run({
          x: { type: "float32", dims: [2, size], data: randomFloats(2 * size, 4) },
          choice: { type: "bool", dims: [], data: Uint8Array.of(choice) },
        });
        await session.close();
        return y?.data as Float32Array;
      }),
    );
    for (const [i, value] of results[1]!.entries()) expect(value).toBeCloseTo(results[0]![i]!, 1);
  }
});
