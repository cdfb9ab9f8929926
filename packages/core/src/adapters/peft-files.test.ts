import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { writePeftFolder } from "../formats/peft/write-folder.ts";
import { full } from "../methods/full.ts";
import { lnTuning } from "../methods/ln-tuning.ts";
import { lora } from "../methods/lora.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { adapterOf, initialParameters } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { fromPeft, toPeft } from "./peft-files.ts";
import { tinyModel } from "./testing/tiny-model.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "peft-files-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const model = tinyModel();
const adapted = injectAdapter(model, {
  method: lora,
  config: {
    r: 2,
    alpha: 3,
    dropout: 0.1,
    useRslora: true,
    rankPattern: { query: 1 },
    targetModules: ["query", "dense"],
    modulesToSave: ["classifier"],
    taskType: "SEQ_CLS",
  },
});
const adapter = adapterOf(adapted, initialParameters(adapted, 1));

test("modules that a method chose by itself are named in the file, because peft has no such default", () => {
  const chosen = injectAdapter(model, { method: lnTuning, config: { modulesToSave: ["classifier"] } });
  const { config, tensors } = toPeft(adapterOf(chosen, initialParameters(chosen, 1)));
  expect([...tensors.keys()]).toContain("classifier.weight");
  const norms = chosen.plans.filter((plan) => plan.method.type === "LN_TUNING").map((plan) => plan.site.name);
  expect(norms.length).toBeGreaterThan(0);
  expect(config["target_modules"]).toEqual(norms);
  expect(config["modules_to_save"]).toEqual(["classifier"]);
  const again = injectAdapter(model, { method: lnTuning, config: fromPeft({ config, tensors }).config });
  expect(again.parameters.map((p) => p.name)).toEqual(chosen.parameters.map((p) => p.name));
});

test("modules trained as a whole are not taken for targets", () => {
  const probe = injectAdapter(model, { method: full, config: { modulesToSave: ["classifier"] } });
  expect(toPeft(adapterOf(probe, initialParameters(probe, 1))).config).not.toHaveProperty("target_modules");
});

test("a folder written and read back is the same adapter", async () => {
  const path = join(folder, "adapter");
  await writePeftFolder(path, toPeft(adapter));
  const read = await readPeftFolder(path);
  expect(read.config).toMatchObject({
    peft_type: "LORA",
    r: 2,
    lora_alpha: 3,
    lora_dropout: 0.1,
    use_rslora: true,
    rank_pattern: { query: 1 },
    target_modules: ["query", "dense"],
    modules_to_save: ["classifier"],
    task_type: "SEQ_CLS",
    inference_mode: true,
  });
  expect([...read.tensors.keys()]).toContain("encoder.layer.0.attention.self.query.lora_A.weight");
  expect([...read.tensors.keys()]).toContain("classifier.weight");
  const back = fromPeft(read);
  expect(back.config).toEqual(adapter.config);
  expect(back.tensors).toEqual(adapter.tensors);
});

const fields = { peft_type: "LORA", r: 2, target_modules: ["query"] };

test("fields that this version does not interpret are kept; peft's own empty values are accepted", () => {
  const config = {
    ...fields,
    lora_bias: false,
    use_dora: false,
    layer_replication: null,
    target_parameters: null,
    trainable_token_indices: [],
    new_field: { a: 1 },
    init_lora_weights: "eva",
    bias: "none",
    fan_in_fan_out: true,
  };
  const read = fromPeft({ config, tensors: new Map() });
  expect(read.config).toMatchObject({ r: 2, alpha: 8, targetModules: ["query"] });
  expect(toPeft(read).config).toMatchObject({ new_field: { a: 1 }, fan_in_fan_out: true, lora_alpha: 8 });
});

test.each([
  { use_qalora: true },
  { bias: "all" },
  { init_lora_weights: "pissa_niter_4" },
  { layer_replication: [[0, 2]] },
])("%o is refused", (more) => {
  expect(() => fromPeft({ config: { ...fields, ...more }, tensors: new Map() })).toThrow(
    expect.objectContaining({ code: "PEFT_OPTION" }),
  );
});

test("an adapter of another model is refused with every problem", () => {
  const tensors = new Map(adapter.tensors);
  const a = tensors.get("encoder.layer.0.attention.self.query.lora_A.weight")!;
  tensors.delete("encoder.layer.0.attention.self.query.lora_A.weight");
  tensors.set("encoder.layer.7.attention.self.query.lora_A.weight", a);
  tensors.set("encoder.layer.1.attention.self.query.lora_A.weight", { dims: [1, 9], data: new Float32Array(9) });
  expect(() => mergeAdapter(model, { ...adapter, tensors })).toThrow(
    expect.objectContaining({
      code: "ADAPTER_MISMATCH",
      details: { problems: expect.objectContaining({ length: 3 }) },
    }),
  );
});

test("float16 tensors are read as float32", () => {
  const name = "x.lora_A.weight";
  const read = fromPeft({ config: fields, tensors: new Map([[name, tensorFrom("float16", [1, 2], [0.5, -2])]]) });
  expect(read.tensors.get(name)).toEqual({ dims: [1, 2], data: Float32Array.from([0.5, -2]) });
});
