import { expect, test } from "vitest";
import { frozenSite } from "../adapters/operands.ts";
import { findSites } from "../adapters/sites.ts";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import type { Value } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { runBuilder } from "../testing/run-graph.ts";
import { dequantized } from "./dequantize.ts";
import { packedWeightOf } from "./packed-weight.ts";
import { dynamic, packedForms, randomFloats } from "./testing/packed-forms.ts";

const [rows, columns] = [6, 48];

/** The identity matrix, times a weight, is its transpose. */
const identity = Float32Array.from({ length: columns * columns }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0));

test.each(Object.entries(packedForms))("%s: the values are those of ONNX Runtime", async (_, linear) => {
  const g = createBuilder(21);
  const x = g.input("x", "float32", [columns, columns]);
  const y = linear(g, x, "block.dense", rows, columns, 5);
  g.output(y, "y");
  const model = toModel(g.finish(), 21);
  const [site] = findSites(model);
  expect(site).toMatchObject({
    name: "block.dense",
    kind: "linear",
    inFeatures: columns,
    outFeatures: rows,
    weightShape: [rows, columns],
  });
  const weight = frozenSite(model.graph, site!).weight();
  const bias = site!.hasBias ? frozenSite(model.graph, site!).bias() : new Float32Array(rows);
  const { y: product } = await runBuilder(g, { x: { type: "float32", dims: [columns, columns], data: identity } });
  const got = product!.data as Float32Array;
  for (let n = 0; n < rows; n++)
    for (let k = 0; k < columns; k++)
      expect(got[k * rows + n]! - bias[n]!, `${n},${k}`).toBeCloseTo(weight[n * columns + k]!, 5);
  expect(weight.some((v) => v !== 0)).toBe(true);
});

test("a linear layer in integer arithmetic is one site; its weight is dequantised with its own scale", () => {
  const g = createBuilder(17);
  const x = g.input("x", "float32", ["batch", columns]);
  const bias = g.initializer("block.dense.bias", tensorFrom("float32", [rows], randomFloats(rows, 4)));
  g.output(g.add(dynamic(g, x, "block.dense", rows, columns, 5), bias), "y");
  const model = toModel(g.finish(), 17);
  const sites = findSites(model);
  expect(sites).toHaveLength(1);
  expect(sites[0]).toMatchObject({
    name: "block.dense",
    inFeatures: columns,
    outFeatures: rows,
    hasBias: true,
    input: "x",
  });
  expect(sites[0]!.uses[0]!.nodes.map((n) => n.op)).toEqual(["DynamicQuantizeMatMul"]); // the lowered form
  const codes = new Int8Array(
    (model.graph.initializers.get("block.dense.weight_quantized")!.data as Uint8Array).slice().buffer,
  );
  const weight = frozenSite(model.graph, sites[0]!).weight();
  expect(weight[1]).toBeCloseTo((codes[rows]! - 3) * 0.01, 6); // [out 0, in 1] is [in 1, out 0] in the file
});

const table = (bits: 2 | 4 | 8, zero: boolean) => ({ bits, zero });
test.each([table(4, false), table(4, true), table(8, true), table(2, true)])(
  "GatherBlockQuantized %j",
  async ({ bits, zero }) => {
    const g = createBuilder(21);
    const ids = g.input("ids", "int64", ["n"]);
    const bytes = (count: number, seed: number): Uint8Array =>
      Uint8Array.from(randomFloats(count, seed), (v) => Math.floor((v + 1) * 127));
    const [width, blocks, packedZeros] = [(32 * bits) / 8, 2, Math.ceil((2 * bits) / 8)];
    const inputs: (Value | null)[] = [
      g.initializer("embed.weight_Q4", tensorFrom("uint8", [5, width], bytes(5 * width, 3))),
      ids,
      g.initializer("scales", tensorFrom("float32", [5, blocks], randomFloats(5 * blocks, 4))),
      zero ? g.initializer("zeros", tensorFrom("uint8", [5, packedZeros], bytes(5 * packedZeros, 5))) : null,
    ];
    const [y] = g.op(
      "GatherBlockQuantized",
      inputs,
      { bits, block_size: 16, quantize_axis: 1, gather_axis: 0 },
      { domain: "com.microsoft", name: "/embed/Gather_Quant" },
    );
    g.output(y!, "y");
    const { y: rowsOf } = await runBuilder(g, {
      ids: { type: "int64", dims: [5], data: BigInt64Array.from([0n, 1n, 2n, 3n, 4n]) },
    });
    const model = toModel(g.finish(), 21);
    const [site] = findSites(model);
    expect(site).toMatchObject({
      name: "embed",
      kind: "embedding",
      inFeatures: 5,
      outFeatures: 32,
      weightShape: [5, 32],
    });
    expect(rowsOf!.dims).toEqual([5, 32]);
    const weight = dequantized(model.graph, packedWeightOf(model.graph, model.graph.nodes[0]!)!);
    const got = rowsOf!.data as Float32Array;
    for (let i = 0; i < got.length; i++) expect(got[i]).toBeCloseTo(weight[i]!, 5);
  },
);
