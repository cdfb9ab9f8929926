import { expect, test } from "vitest";
import { mergeAdapter } from "../adapters/merge.ts";
import { findSites } from "../adapters/sites.ts";
import { movedAdapter } from "../adapters/testing/moved-adapter.ts";
import { tinyModel } from "../adapters/testing/tiny-model.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import type { Model } from "../onnx/ir.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { listMethods, methodOf } from "./registry.ts";
import { triedConfigs } from "./testing/configs.ts";

// The matrix itself: behaviour-<ground>.test.ts.

test("every method is tried", () => {
  expect(
    listMethods()
      .map((m) => m.type)
      .sort(),
  ).toEqual([...new Set(triedConfigs.map((tried) => tried.type))].sort());
  expect(methodOf("lora").type).toBe("LORA");
  expect(() => methodOf("LOAR")).toThrow(expect.objectContaining({ code: "UNKNOWN_METHOD" }));
});

test("shared weights stay as they are elsewhere", async () => {
  const model = prepareModel(tinyModel());
  const merged = mergeAdapter(model, movedAdapter(model, "BITFIT", {}, 2));
  const bias = (m: Model, name: string): Float32Array => {
    const site = findSites(m).find((s) => s.name === name)!;
    return toFloat32Array(m.graph.initializers.get(site.bias!)!);
  };
  const names = ["encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.key"] as const;
  expect(bias(model, names[0])).toEqual(bias(model, names[1]));
  expect(bias(merged, names[0])).not.toEqual(bias(merged, names[1]));
});
