import { expect, test } from "vitest";
import { lnTuning } from "../methods/ln-tuning.ts";
import { lora } from "../methods/lora.ts";
import type { Method } from "../methods/method.ts";
import { injectAdapter } from "./inject.ts";
import { directOutputs } from "./reach.ts";
import { type AdapterConfigInput, parseAdapterConfig } from "./select.ts";
import { findSites } from "./sites.ts";
import { savedSites, type TargetConfig, targetSites } from "./targets.ts";
import { tinyModel } from "./testing/tiny-model.ts";

const model = tinyModel();
const sites = findSites(model);
const chosen = (config: TargetConfig): string[] =>
  targetSites(sites, config, directOutputs(model.graph)).map((s) => s.name);

test("sites of the hand-written model", () => {
  const query = sites.find((s) => s.name === "encoder.layer.0.attention.self.query");
  expect(query).toMatchObject({
    kind: "linear",
    weightLayout: "in_out",
    fanInFanOut: false,
    hasBias: true,
    nameSource: "scope",
    weightShape: [8, 8],
    bias: "shared.zero_bias",
  });
  expect(sites.find((s) => s.name === "encoder.layer.1.output.dense")).toMatchObject({
    weightLayout: "out_in",
    inFeatures: 12,
    outFeatures: 8,
    weightShape: [8, 12],
  });
  expect(sites.find((s) => s.name === "encoder.layer.1.intermediate.dense")).toMatchObject({
    inFeatures: 8,
    outFeatures: 12,
    hasBias: true,
  });
  expect(sites.map((s) => `${s.kind} ${s.name}`)).toContain("norm encoder.layer.0.output.norm");
  expect(sites).toHaveLength(1 + 2 * 8 + 1);
  for (const site of sites) expect(site.output).toBe(site.uses[0]!.nodes.at(-1)!.outputs[0]);
});

test("endings count at a dot", () => {
  expect(chosen({ targetModules: ["query"] })).toHaveLength(2);
  expect(chosen({ targetModules: ["attention.output.dense"] })).toHaveLength(2);
  expect(chosen({ targetModules: ["dense"] })).toHaveLength(6);
  expect(() => chosen({ targetModules: ["uery"] })).toThrow(/Did you mean "query"/);
});

test("a text is one expression over the whole name", () => {
  expect(chosen({ targetModules: String.raw`.*\.0\..*(query|value)` })).toEqual([
    "encoder.layer.0.attention.self.query",
    "encoder.layer.0.attention.self.value",
  ]);
  expect(() => chosen({ targetModules: "query" })).toThrow(expect.objectContaining({ code: "TARGETS_NOT_FOUND" }));
  expect(() => chosen({ targetModules: ".*query", layersToTransform: 1 })).toThrow(
    expect.objectContaining({ code: "TARGETS_INVALID" }),
  );
});

test("all-linear leaves out the head and what modulesToSave names", () => {
  expect(chosen({ targetModules: "all-linear" })).toHaveLength(12);
  expect(chosen({ targetModules: "all-linear" })).not.toContain("classifier");
  expect(chosen({ targetModules: "all-linear", modulesToSave: ["dense"] })).toHaveLength(6);
});

test("exclusions and layers", () => {
  expect(chosen({ targetModules: ["query", "key"], excludeModules: ["key"] })).toHaveLength(2);
  expect(chosen({ targetModules: ["query", "key"], excludeModules: ".*0.*" })).toHaveLength(2);
  expect(chosen({ targetModules: ["query"], layersToTransform: 1 })).toEqual(["encoder.layer.1.attention.self.query"]);
  expect(chosen({ targetModules: ["query"], layersToTransform: [0], layersPattern: "layer" })).toEqual([
    "encoder.layer.0.attention.self.query",
  ]);
  expect(() => chosen({ targetModules: ["query"], layersToTransform: [0], layersPattern: ["h"] })).toThrow(/No module/);
  // a full name is chosen whatever its layer
  expect(chosen({ targetModules: ["encoder.layer.0.attention.self.query"], layersToTransform: 1 })).toHaveLength(1);
});

test("modulesToSave takes modules that contain others, and the heads of the task", () => {
  const saved = (config: TargetConfig): string[] => savedSites(sites, config).map((s) => s.name);
  expect(saved({ modulesToSave: ["attention.output"] })).toHaveLength(4);
  expect(saved({ taskType: "SEQ_CLS" })).toEqual(["classifier"]);
  expect(saved({})).toEqual([]);
  expect(() => saved({ modulesToSave: ["clasifier"] })).toThrow(/Did you mean "classifier"/);
});

test("configs are strict and say what is missing", () => {
  const inject = (method: Method, config: AdapterConfigInput) => injectAdapter(model, { method, config });
  expect(() => parseAdapterConfig(lora, { rank: 4 } as object)).toThrow(
    expect.objectContaining({ code: "CONFIG_INVALID" }),
  );
  expect(() => inject(lora, {})).toThrow(expect.objectContaining({ code: "TARGETS_MISSING" }));
  expect(() => inject(lora, { targetModules: ["LayerNorm"] })).toThrow(
    expect.objectContaining({ code: "TARGETS_UNSUITABLE" }),
  );
  expect(inject(lora, { targetModules: ["query", "LayerNorm"] }).skipped.map((s) => s.site)).toEqual([
    "encoder.layer.0.attention.output.LayerNorm",
    "encoder.layer.1.attention.output.LayerNorm",
  ]);
  expect(inject(lnTuning, {}).parameters).toHaveLength(2 * 2 + 2);
});

test("modules that no wanted output depends on are left out and listed", () => {
  const adapted = injectAdapter(model, {
    method: lora,
    config: { targetModules: ["query"], modulesToSave: ["classifier"] },
    wantedOutputs: ["hidden"],
  });
  expect(adapted.unreached).toEqual(["classifier"]);
  expect(adapted.parameters.map((p) => p.name)).not.toContain("classifier.weight");
  expect(() =>
    injectAdapter(model, { method: lora, config: { targetModules: ["classifier"] }, wantedOutputs: ["hidden"] }),
  ).toThrow(expect.objectContaining({ code: "TARGETS_UNREACHED" }));
});
