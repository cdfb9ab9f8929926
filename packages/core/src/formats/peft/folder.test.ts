import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TensorData } from "../../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../../onnx/tensor.ts";
import { decodeSafetensors } from "../safetensors/read.ts";
import { encodeSafetensors } from "../safetensors/write.ts";
import { peftCard } from "./card.ts";
import { readPeftFolder } from "./read-folder.ts";
import { writePeftFolder } from "./write-folder.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "peft-folder-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const config = {
  peft_type: "LORA",
  r: 1,
  lora_alpha: 2,
  target_modules: ["query"],
  rank_pattern: { "layer.0.query": 1 },
  modules_to_save: ["classifier"],
  task_type: "SEQ_CLS",
  inference_mode: true,
  field_of_the_future: { keep: [1, 2] },
};
const tensors = new Map<string, TensorData>([
  ["layer.0.query.lora_A.weight", tensorFrom("float32", [1, 2], [1, 2])],
  ["layer.0.query.lora_B.weight", tensorFrom("float32", [2, 1], [3, 4])],
  ["classifier.weight", tensorFrom("float32", [1, 2], [5, 6])],
]);

const put = (name: string, files: Record<string, string | Uint8Array>): string => {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  for (const [file, content] of Object.entries(files)) writeFileSync(join(path, file), content);
  return path;
};
const configText = JSON.stringify({ peft_type: "LORA", r: 1 });
const weights = encodeSafetensors([["base_model.model.q.lora_A.weight", tensorFrom("float32", [1, 1], [1])]]);

test("what is written is read back, unknown fields included", async () => {
  const path = join(folder, "new", "adapter");
  await writePeftFolder(path, { config, tensors });
  expect(readdirSync(path).sort()).toEqual(["README.md", "adapter_config.json", "adapter_model.safetensors"]);
  expect(readdirSync(join(folder, "new"))).toEqual(["adapter"]);
  const read = await readPeftFolder(path);
  expect(read.config).toEqual(config);
  expect([...read.tensors.keys()].sort()).toEqual([...tensors.keys()].sort());
  expect(toFloat32Array(read.tensors.get("layer.0.query.lora_B.weight")!)).toEqual(Float32Array.of(3, 4));
});

test("files have the names and the order that peft gives them", async () => {
  const path = join(folder, "layout");
  await writePeftFolder(path, { config, tensors });
  const stored = decodeSafetensors(readFileSync(join(path, "adapter_model.safetensors")));
  expect(stored.metadata).toEqual({ format: "pt" });
  expect([...stored.tensors.keys()]).toEqual([
    "base_model.model.classifier.weight",
    "base_model.model.layer.0.query.lora_A.weight",
    "base_model.model.layer.0.query.lora_B.weight",
  ]);
  const keys = [...readFileSync(join(path, "adapter_config.json"), "utf8").matchAll(/^ {2}"(\w+)"/gm)].map((m) => m[1]);
  expect(keys).toEqual(Object.keys(config).sort());
});

test("an adapter read from a folder can be written over that folder", async () => {
  const path = join(folder, "again");
  await writePeftFolder(path, { config, tensors });
  const before = readFileSync(join(path, "adapter_model.safetensors"));
  await writePeftFolder(path, await readPeftFolder(path));
  expect(readFileSync(join(path, "adapter_model.safetensors"))).toEqual(before);
});

test("a folder with anything else in it is not replaced", async () => {
  const path = put("foreign", { "adapter_config.json": configText, "thesis.tex": "years of work" });
  await expect(writePeftFolder(path, { config, tensors })).rejects.toMatchObject({ code: "FOLDER_NOT_REPLACEABLE" });
  expect(readdirSync(path).sort()).toEqual(["adapter_config.json", "thesis.tex"]);
});

test("a bad config or tensor leaves the old adapter as it was", async () => {
  const path = join(folder, "kept");
  await writePeftFolder(path, { config, tensors });
  const bad = new Map([["x", { ...tensorFrom("float32", [1], [1]), dims: [2] }]]);
  await expect(writePeftFolder(path, { config, tensors: bad })).rejects.toMatchObject({
    code: "SAFETENSORS_UNWRITABLE",
  });
  const negative = writePeftFolder(path, { config: { ...config, r: -1 }, tensors });
  await expect(negative).rejects.toMatchObject({ code: "PEFT_CONFIG_INVALID" });
  expect((await readPeftFolder(path)).config).toEqual(config);
  expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
});

describe("reading", () => {
  test.each(["adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "adapter_model.ckpt"])(
    "%s alone is refused as a pickle",
    async (name) => {
      const path = put(`pickle ${name}`, { "adapter_config.json": configText, [name]: "cos\nsystem" });
      const error = await readPeftFolder(path).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code: "PICKLE_REFUSED", hint: expect.stringContaining("save_pretrained") });
    },
  );

  test("a pickle beside the safetensors file is not looked at; one under its name is refused", async () => {
    const files = { "adapter_config.json": configText, "adapter_model.bin": "cos\nsystem" };
    const path = put("beside", { ...files, "adapter_model.safetensors": weights });
    expect((await readPeftFolder(path)).tensors.size).toBe(1);
    const zip = Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0);
    const renamed = put("renamed", { ...files, "adapter_model.safetensors": zip });
    await expect(readPeftFolder(renamed)).rejects.toMatchObject({ code: "PICKLE_REFUSED" });
  });

  test("a subfolder, but none outside", async () => {
    put("several/one", { "adapter_config.json": configText, "adapter_model.safetensors": weights });
    const path = join(folder, "several");
    expect((await readPeftFolder(path, { subfolder: "one" })).config).toEqual({ peft_type: "LORA", r: 1 });
    for (const subfolder of ["..", "../several-b", "one/../../beside", "/etc"]) {
      await expect(readPeftFolder(path, { subfolder })).rejects.toMatchObject({ code: "PATH_OUTSIDE_FOLDER" });
    }
  });

  test.each<[string, Record<string, string | Uint8Array>, string]>([
    ["nothing", {}, "FILE_MISSING"],
    ["no weights", { "adapter_config.json": configText }, "FILE_MISSING"],
    ["no config", { "adapter_model.safetensors": weights }, "FILE_MISSING"],
    ["a field twice", { "adapter_config.json": '{"peft_type":"LORA","r":1,"r":2}' }, "PEFT_CONFIG_INVALID"],
    ["a list for a config", { "adapter_config.json": "[]" }, "PEFT_CONFIG_INVALID"],
    ["Python's NaN", { "adapter_config.json": '{"peft_type":"LORA","lora_alpha":NaN}' }, "PEFT_CONFIG_INVALID"],
    ["a deep config", { "adapter_config.json": `{"a":${"[".repeat(99_999)}` }, "PEFT_CONFIG_INVALID"],
    ["a config of 5 MB", { "adapter_config.json": `${configText}${" ".repeat(5e6)}` }, "PEFT_CONFIG_INVALID"],
    ["a huge rank", { "adapter_config.json": '{"peft_type":"LORA","r":999999999}' }, "PEFT_CONFIG_INVALID"],
    [
      "names without prefix",
      {
        "adapter_config.json": configText,
        "adapter_model.safetensors": encodeSafetensors([["q.lora_A.weight", tensorFrom("float32", [1], [1])]]),
      },
      "PEFT_KEYS",
    ],
    [
      "a broken weights file",
      { "adapter_config.json": configText, "adapter_model.safetensors": weights.subarray(0, 40) },
      "SAFETENSORS_INVALID",
    ],
  ])("%s is refused", async (name, files, code) => {
    await expect(readPeftFolder(put(`bad ${name}`, files))).rejects.toMatchObject({ code });
  });
});

describe("card", () => {
  test("has front matter, settings, the number of parameters and the caller's table", () => {
    const text = peftCard({ ...config, base_model_name_or_path: "org/bert-tiny" }, tensors, {
      title: "Spam filter",
      tags: ["spam", "a: b"],
      metrics: { columns: ["split", "accuracy"], rows: [["test|dev", 0.97]] },
    });
    expect(text.split("\n").slice(0, 8)).toEqual([
      "---",
      'base_model: "org/bert-tiny"',
      "library_name: peft",
      "tags:",
      '- "a: b"',
      '- "lora"',
      '- "spam"',
      "---",
    ]);
    expect(text).toContain("# Spam filter\n");
    expect(text).toContain("- Parameters in this file: 6 in 3 tensors\n");
    expect(text).toContain("- r: `1`\n");
    expect(text).toContain("| split | accuracy |\n| --- | --- |\n| test\\|dev | 0.97 |\n");
  });

  test.each(["/home/somebody/models/bert", "C:\\models", "x\nlicense: evil", ""])(
    "%j is no model of the Hub",
    (base) => {
      expect(peftCard({ ...config, base_model_name_or_path: base }, tensors)).not.toContain("base_model:");
    },
  );
});
