import { describe, expect, test } from "vitest";
import { adapterOf, initialParameters } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { mergeAdapter } from "../adapters/merge.ts";
import { frozenSite } from "../adapters/operands.ts";
import { findSites } from "../adapters/sites.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { lora } from "../methods/lora.ts";
import type { Model } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { quantizeModel } from "./quantize-model.ts";
import { quantizeCodes, quantizePerRow, quantizeRows } from "./quantize-weights.ts";

const ids = { type: "int64", dims: [2, 5], data: BigInt64Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], BigInt) } as const;

async function run(model: Model): Promise<Float32Array> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const { logits } = await session.run({ input_ids: ids }, ["logits"]);
  await session.close();
  return logits?.data as Float32Array;
}

const model = tinyModel();
/** Largest error of a weight as a share of its norm: half a level of 127, of 15 between the extremes of a block, the widest gap of NF4 and of FP4. */
const limits = { int8: 0.006, int4: 0.09, nf4: 0.12, fp4: 0.2 } as const;

describe.each(Object.keys(limits) as (keyof typeof limits)[])("%s", (type) => {
  const { model: small, sites, skipped } = quantizeModel(model, { type, blockSize: 16 });

  test("every linear layer but the head is packed, under its name, with its shape and bias", () => {
    const shape = (m: Model) =>
      findSites(m).map(({ name, kind, weightShape, hasBias, fanInFanOut }) => ({
        name,
        kind,
        weightShape,
        hasBias,
        fanInFanOut,
      }));
    expect(shape(small)).toEqual(shape(model));
    const packed = findSites(small)
      .filter((site) => site.packed)
      .map((site) => site.name);
    expect(packed.sort()).toEqual(sites.map(({ site }) => site).sort());
    expect(packed).toHaveLength(12);
    expect(skipped).toEqual([{ site: "classifier", reason: "it is excluded" }]);
  });

  test("the errors are those of the weights that it reads", () => {
    for (const { site, relativeError, bytesBefore, bytesAfter } of sites) {
      const [own, plain] = [small, model].map((m) => {
        const found = findSites(m).find((s) => s.name === site)!;
        return frozenSite(m.graph, found).weight();
      });
      const difference = Math.hypot(...own!.map((v, i) => v - plain![i]!)) / Math.hypot(...plain!);
      expect(relativeError).toBeCloseTo(difference, 6);
      expect(relativeError).toBeGreaterThan(0);
      expect(relativeError).toBeLessThan(limits[type]);
      expect(bytesAfter).toBeLessThan(bytesBefore);
    }
  });

  test("it computes nearly the same, and trains and merges as other models do", async () => {
    const [found, expected] = [await run(small), await run(model)];
    const scale = Math.max(...expected.map(Math.abs));
    expect(Math.max(...found.map((v, i) => Math.abs(v - expected[i]!))) / scale).toBeLessThan(10 * limits[type]);
    const adapted = injectAdapter(small, { method: lora, config: { r: 2, targetModules: "all-linear" } });
    const merged = mergeAdapter(small, adapterOf(adapted, initialParameters(adapted, 1)));
    const after = await run(merged);
    for (const [i, value] of after.entries()) expect(value).toBeCloseTo(found[i]!, 4);
  });
});

test("a second round finds nothing to do, and says why", () => {
  const { model: small } = quantizeModel(model, { type: "nf4", exclude: [] });
  expect(() => quantizeModel(small, { exclude: [] })).toThrow(
    expect.objectContaining({
      code: "QUANTIZE_NOTHING",
      details: {
        skipped: expect.arrayContaining([{ site: "classifier", reason: "its weight is packed already (MatMulBnb4)" }]),
      },
    }),
  );
  expect(() => quantizeModel(model, { type: "nf5" as "nf4" })).toThrow(
    expect.objectContaining({ code: "CONFIG_INVALID" }),
  );
});

test("weights on a level stay what they are; zeros stay zeros", () => {
  const levels = Float32Array.from({ length: 32 }, (_, i) => (i % 16) - 8);
  const rows = quantizeRows(levels, 1, 32, { bits: 4, blockSize: 16 });
  expect([...rows.data.slice(0, 4)]).toEqual([0x10, 0x32, 0x54, 0x76]);
  expect([...rows.scales]).toEqual([1, 1]);
  const zeros = new Float32Array(20);
  expect([...quantizeRows(zeros, 2, 10, { bits: 8, blockSize: 16, hasZeroPoint: true }).scales]).toEqual([0, 0]);
  expect([...quantizeCodes(zeros, 2, 10, { codeBook: "nf4", blockSize: 16 }).data]).toEqual(new Array(10).fill(0x77));
  expect([...quantizePerRow(Float32Array.of(127, -127, 0, 64), 1, 4).data]).toEqual([127, -127, 0, 64]);
  expect(() => quantizeRows(zeros, 3, 10, { bits: 4, blockSize: 16 })).toThrow(
    expect.objectContaining({ code: "SHAPE_MISMATCH" }),
  );
});
