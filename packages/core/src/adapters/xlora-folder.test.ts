import { mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { writePeftFolder } from "../formats/peft/write-folder.ts";
import { methodOf } from "../methods/registry.ts";
import { toFloat32Array } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { type Adapter, adapterOf, initialParameters } from "./adapter.ts";
import { injectAdapter } from "./inject.ts";
import { toPeft } from "./peft-files.ts";
import { adapterFeeds, makeSwappable } from "./swappable.ts";
import {
  goldenAdapter,
  goldenInputs,
  goldenModel,
  goldenRouters,
  goldenTensor,
  goldenUnder,
} from "./testing/golden-routers.ts";
import { withExperts, xloraConfigOf } from "./xlora.ts";
import { readXloraFolder, writeXloraFolder } from "./xlora-folder.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "xlora-"));
});
afterAll(() => rm(folder, { recursive: true }));

const names = goldenRouters.token_tasks;
const experts = names.map(goldenAdapter);
const camelCase = (name: string): string => name.replace(/_(.)/g, (_, c: string) => c.toUpperCase());
const { xlora: runs } = goldenRouters;

/** An X-LoRA that peft ran. */
async function golden(run: string, expertNames: readonly string[] = names): Promise<Adapter> {
  const options = Object.fromEntries(Object.entries(runs[run]!).map(([name, value]) => [camelCase(name), value]));
  const named = Object.fromEntries(experts.map((adapter, i) => [expertNames[i]!, adapter]));
  const config = xloraConfigOf(named, { hiddenSize: 32, ...options });
  const adapted = injectAdapter(await goldenModel("llama", "model_torchscript.onnx"), {
    method: methodOf("XLORA"),
    config,
  });
  const values = withExperts(adapted, initialParameters(adapted, 1), experts);
  for (const [name, tensor] of goldenUnder(`${run}.classifier`))
    values.set(`base_model.internal_xlora_classifier.${name}`, toFloat32Array(tensor));
  return adapterOf(adapted, values);
}

const byName = ({ tensors }: Adapter) => [...tensors].sort(([a], [b]) => (a < b ? -1 : 1));

describe.each(Object.keys(runs))("%s", (run) => {
  test("written and read it is the same adapter, and gives peft's logits", async () => {
    const adapter = await golden(run);
    const place = join(folder, run);
    await writeXloraFolder(place, adapter);
    expect((await readdir(place)).sort()).toEqual(
      ["README.md", "adapter_config.json", "adapter_model.safetensors", ...names].sort(),
    );
    const { config, tensors } = await readPeftFolder(place, { subfolder: names[0]! });
    expect(config["peft_type"]).toBe("LORA");
    expect([...tensors.keys()].every((name) => /\.lora_[AB]\.weight$/.test(name))).toBe(true);
    const again = await readXloraFolder(place);
    expect(byName(again)).toEqual(byName(adapter));
    const { targetModules: was, ...own } = adapter.config;
    const { targetModules: is, ...read } = again.config;
    expect(read).toEqual(own);
    expect([...(is as string[])].sort()).toEqual([...(was as string[])].sort());

    const swappable = makeSwappable(await goldenModel("llama", "model_torchscript.onnx"), {
      method: methodOf("XLORA"),
      config: again.config,
    });
    const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
    const { logits } = await session.run({ ...goldenInputs("text"), ...adapterFeeds(swappable, again) }, ["logits"]);
    await session.close();
    const expected = goldenTensor(`${run}.logits`);
    expect((logits!.data as Float32Array).reduce((w, v, i) => Math.max(w, Math.abs(v - expected[i]!)), 0)).toBeLessThan(
      1e-5,
    );
  });
});

test("experts are found by number, as peft writes them, and where the caller says", async () => {
  const adapter = await golden("xlora");
  const place = join(folder, "numbered");
  await writeXloraFolder(place, adapter);
  for (const [i, name] of names.entries()) await rename(join(place, name), join(place, `${i}`));
  expect(byName(await readXloraFolder(place))).toEqual(byName(adapter));
  const apart = Object.fromEntries(names.map((name, i) => [name, join(folder, `apart-${i}`)]));
  for (const [i, name] of names.entries()) await rename(join(place, `${i}`), apart[name]!);
  expect(byName(await readXloraFolder(place, { experts: apart }))).toEqual(byName(adapter));
  await expect(readXloraFolder(place)).rejects.toMatchObject({ code: "NO_EXPERTS" });
  await expect(readXloraFolder(place, { experts: {} })).rejects.toMatchObject({ code: "NO_EXPERTS" });
});

test("it is written again in the same place, and nothing foreign is removed", async () => {
  const adapter = await golden("xlora");
  const place = join(folder, "again");
  await writeXloraFolder(place, adapter);
  await writeXloraFolder(place, adapter);
  await rename(join(place, names[0]!), join(place, "notes"));
  await expect(writeXloraFolder(place, adapter)).rejects.toMatchObject({ code: "FOLDER_NOT_REPLACEABLE" });
  expect(await readdir(place)).toContain("notes");
});

test.each(["../outside", "a/b", "", ".hidden", "..", "a\\b"])("the expert name %j is refused", async (name) => {
  const adapter = await golden("xlora", [name, "one", "two"]);
  await expect(writeXloraFolder(join(folder, "named"), adapter)).rejects.toMatchObject({ code: "PATH_OUTSIDE_FOLDER" });
});

test("paths in a config are not followed, and names cannot leave the folder", async () => {
  const place = join(folder, "hostile");
  const { config, tensors } = toPeft(await golden("xlora"));
  const { r: _, target_modules: _modules, ...fields } = config;
  const classifier = new Map([...tensors].filter(([name]) => name.startsWith("base_model.")));
  await writePeftFolder(place, { config: { ...fields, adapters: { "../xlora": "../xlora" } }, tensors: classifier });
  await expect(readXloraFolder(place)).rejects.toMatchObject({ code: "PATH_OUTSIDE_FOLDER" });
});

test("another type, and a folder without a classifier, are refused", async () => {
  const place = join(folder, "other");
  await writePeftFolder(place, toPeft(experts[0]!));
  await expect(readXloraFolder(place)).rejects.toMatchObject({ code: "NOT_XLORA" });
  await expect(writeXloraFolder(place, experts[0]!)).rejects.toMatchObject({ code: "NOT_XLORA" });
  const adapter = await golden("xlora");
  const empty = new Map([...adapter.tensors].filter(([name]) => !name.startsWith("base_model.")));
  await writeXloraFolder(join(folder, "empty"), { ...adapter, tensors: empty });
  await expect(readXloraFolder(join(folder, "empty"))).rejects.toMatchObject({ code: "ADAPTER_MISMATCH" });
});
