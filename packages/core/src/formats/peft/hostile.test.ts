import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fromPeft } from "../../adapters/peft-files.ts";
import type { Site } from "../../adapters/site.ts";
import { targetSites } from "../../adapters/targets.ts";
import { PeftError } from "../../errors.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import { errorOf } from "../../onnx/testing/errors.ts";
import { encodeSafetensors } from "../safetensors/write.ts";
import { checkAdapterConfig } from "./adapter-config.ts";
import { readPeftFolder } from "./read-folder.ts";
import { writePeftFolder } from "./write-folder.ts";

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "hostile-peft-"));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const weights = encodeSafetensors([["base_model.model.q.lora_A.weight", tensorFrom("float32", [1, 2], [1, 2])]]);
let count = 0;
function folderWith(config: string | Uint8Array): string {
  const folder = join(root, `${count++}`);
  mkdirSync(folder);
  writeFileSync(join(folder, "adapter_config.json"), config);
  writeFileSync(join(folder, "adapter_model.safetensors"), weights);
  return folder;
}

const deep = (levels: number): string => `${"[".repeat(levels)}${"]".repeat(levels)}`;
const long = (length: number): string => JSON.stringify(new Array(length).fill("q"));

test.each<[string, string | Uint8Array]>([
  ["depth", `{"peft_type":"LORA","x":${deep(10)}}`],
  ["much depth", `{"peft_type":"LORA","x":${deep(100_000)}}`],
  ["a cut", '{"peft_type":"LORA"'],
  ["a type given twice", '{"peft_type":"LORA","peft_type":"LN_TUNING"}'],
  ["a type that is no text", '{"peft_type":["LORA"]}'],
  ["no UTF-8", Uint8Array.from([...Buffer.from('{"peft_type":"LORA","x":"'), 0xff, 0x22, 0x7d])],
  ["a byte order mark", '\ufeff{"peft_type":"LORA"}'],
  ["__proto__", '{"peft_type":"LORA","__proto__":{"r":8}}'],
  ["__proto__ inside", '{"peft_type":"LORA","x":{"__proto__":{}}}'],
  ["constructor as a type", '{"peft_type":"LORA","task_type":"constructor"}'],
  ["r of a billion", '{"peft_type":"LORA","r":1000000000}'],
  ["r beyond all numbers", '{"peft_type":"LORA","r":1e999}'],
  ["r as a text", '{"peft_type":"LORA","r":"8"}'],
  ["alpha of 1e300", '{"peft_type":"LORA","lora_alpha":1e300}'],
  ["a dropout of 2", '{"peft_type":"LORA","lora_dropout":2}'],
  ["50,001 modules", `{"peft_type":"LORA","target_modules":${long(50_001)}}`],
  ["a pattern of 40,000 characters", `{"peft_type":"LORA","target_modules":"${"a".repeat(40_000)}"}`],
  ["a layer of a billion", '{"peft_type":"LORA","layers_to_transform":1000000000}'],
  ["200,000 unknown values", `{"peft_type":"LORA","x":${long(200_000)}}`],
  ["more than 4 MB", `{"peft_type":"LORA","x":"${"a".repeat(4_000_001)}"}`],
  ["a list", "[]"],
  ["null", "null"],
])("a config with %s is refused", async (_, config) => {
  await expect(readPeftFolder(folderWith(config))).rejects.toMatchObject({ code: "PEFT_CONFIG_INVALID" });
});

test.skipIf(process.platform === "win32")("pipes in the place of files are not waited for", async () => {
  const folder = join(root, "pipes");
  mkdirSync(folder);
  execFileSync("mkfifo", [join(folder, "adapter_config.json")]);
  await expect(readPeftFolder(folder)).rejects.toMatchObject({ code: "FILE_MISSING" });
});

test("what is refused leaves nothing half-written", async () => {
  const folder = join(root, "out");
  for (const config of [
    { peft_type: "LORA", r: 1e9 },
    { peft_type: "LORA", target_modules: ["x".repeat(5000)] },
  ]) {
    const adapter = { config, tensors: new Map([["q.lora_A.weight", tensorFrom("float32", [1], [1])]]) };
    await expect(writePeftFolder(folder, adapter)).rejects.toBeInstanceOf(PeftError);
  }
  const twice = new Map([["q\ud800", tensorFrom("float32", [1], [1])]]);
  await expect(writePeftFolder(folder, { config: { peft_type: "LORA" }, tensors: twice })).rejects.toMatchObject({
    code: "SAFETENSORS_UNWRITABLE",
  });
  expect(readdirSync(root).filter((name) => name.includes("out"))).toEqual([]);
});

const sites = Array.from({ length: 300 }, (_, i): Site => {
  const name = `model.layers.${i}.self_attn.q_proj`;
  return {
    name,
    kind: "linear",
    inFeatures: 1,
    outFeatures: 1,
    weightShape: [1, 1],
    hasBias: false,
    weight: name,
    weightLayout: "out_in",
    fanInFanOut: false,
    input: "x",
    output: name,
    uses: [],
    nameSource: "weight",
  };
});

const choose = (config: Record<string, unknown>): Site[] => {
  const fields = { peft_type: "LORA", ...config };
  checkAdapterConfig(fields, "the config");
  return targetSites(sites, fromPeft({ config: fields, tensors: new Map() }).config);
};

test("patterns made to be slow choose modules, or are refused, without delay", () => {
  for (const pattern of ["(a+)+b", "(.*)*x", "((.*.*)*.*)*x", "(\\w+\\.?)+\\d", "(.|.)*(.|.)*(.|.)*x"]) {
    expect(errorOf(() => choose({ target_modules: pattern })).code).toBe("TARGETS_NOT_FOUND");
  }
  for (const pattern of ["((.*)*x?".repeat(4000), "(((((a*)*)*)*)*)*", "(?=(?=a))", "(a"]) {
    expect(errorOf(() => choose({ target_modules: pattern })).code).toBe("PATTERN");
  }
  const heavy = "((?!.*b).)*".repeat(2900);
  expect(errorOf(() => choose({ target_modules: `${heavy}x` })).code).toBe("PATTERN");
  expect(errorOf(() => choose({ target_modules: ["q_proj"], exclude_modules: `${heavy}x` })).code).toBe("PATTERN");
  const layers = { layers_to_transform: [0], layers_pattern: heavy.slice(0, 990) };
  expect(choose({ target_modules: ["q_proj"], ...layers })).toHaveLength(1);
});

test("fifty thousand names that do not exist are answered with a few suggestions", () => {
  const names = Array.from({ length: 50_000 }, (_, i) => `q_porj_${i}_${"x".repeat(20)}`);
  const error = errorOf(() => choose({ target_modules: names }));
  expect(error.code).toBe("TARGETS_NOT_FOUND");
  expect(error.message.length).toBeLessThan(5000);
});
