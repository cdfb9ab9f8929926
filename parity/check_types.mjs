// Makes an adapter of every type and variant that peft wrote one of (golden/adapters, golden/methods, at convolutions golden/convolutions and
// golden/convolution-methods), moves every trained tensor, and lets peft load all of them: npm run parity:types (its last part is
// Python: see README.md). Writes types.json.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import process, { env } from "node:process";
import { fileURLToPath } from "node:url";
import {
  adapterFeeds,
  adapterOf,
  createRandom,
  encodeModel,
  fromPeft,
  initialParameters,
  injectAdapter,
  listMethods,
  makeSwappable,
  methodOf,
  onnxruntimeNode,
  readModel,
  readPeftFolder,
  readSafetensors,
  tensorFrom,
  toNumbers,
  toPeft,
  writePeftFolder,
  writeSafetensors,
} from "@onnx-peft/core";
import { writeXloraCase } from "./xlora_case.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const golden = join(here, "golden");
const base = join(golden, "models/bert");
const python = env["PYTHON"] ?? join(here, ".venv/bin/python");
const known = new Set(listMethods().map(({ type }) => type));

/** `npm run parity:types -- oft lora`: these alone; the others stay in types.json as they were. */
const wanted = process.argv.slice(2);

/** Types whose files peft reads wrongly where it has not written them, and why. */
const misread = {
  FROD: "peft 0.21 makes U when the adapter is set up, from a basis of its own whose directions differ, and keeps it when the file's basis is read",
};

/** Models with the folders of peft's adapters for them, an input, what check_adapter.py calls the model, and how far tensors are moved. */
const groups = [
  {
    ...{ base, model: join(base, "onnx/model_torchscript.onnx"), inputs: "adapters/lora" },
    noise: 0.1,
    folders: [...(await foldersIn("adapters")), ...(await foldersIn("methods"))],
  },
  {
    ...{ base: "convolutions", model: join(golden, "convolutions/model.onnx"), inputs: "convolutions" },
    noise: 0.5,
    folders: [["convolutions/lora", join(golden, "convolutions")]],
  },
  {
    ...{ base: "convolution-methods", model: join(golden, "convolution-methods/model.onnx") },
    ...{ inputs: "convolution-methods/dora", noise: 0.5 },
    folders: await foldersIn("convolution-methods", "convolutions/"),
  },
];

/** Adapter folders under one, by name. */
async function foldersIn(kind, prefix = "") {
  const entries = await readdir(join(golden, kind), { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  return names.sort().map((name) => [`${prefix}${name}`, join(golden, kind, name)]);
}

async function typeOf(folder) {
  return JSON.parse(await readFile(join(folder, "adapter_config.json"), "utf8")).peft_type;
}

/** The inputs in a golden file as stored and as a session is fed with them. */
async function inputsOf(folder) {
  const { tensors } = await readSafetensors(join(golden, folder, "golden.safetensors"));
  const given = [...tensors].filter(([name]) => name.startsWith("input."));
  const feeds = given.map(([name, tensor]) => {
    const numbers = toNumbers(tensor);
    const data = tensor.type === "int64" ? BigInt64Array.from(numbers, BigInt) : Float32Array.from(numbers);
    return [name.slice("input.".length), { type: tensor.type, dims: tensor.dims, data }];
  });
  return { given, feeds: Object.fromEntries(feeds) };
}

/** An adapter of ours with the options of peft's, every trained tensor moved from its start. */
async function make(model, folder, noise) {
  const { type, config } = fromPeft(await readPeftFolder(folder));
  const adapted = injectAdapter(model, { method: methodOf(type), config });
  const random = createRandom(`types ${folder.split("/").at(-1)}`);
  const values = initialParameters(adapted, 7);
  // Constrained OFT keeps its blocks within eps, as training here and every forward pass of peft do.
  const scale = config.coft ? config.eps / 100 : noise;
  for (const { name, trainable, spec } of adapted.parameters) {
    const data = values.get(name);
    if (trainable && spec.saved !== false) for (let i = 0; i < data.length; i++) data[i] += scale * random.normal();
  }
  return adapterOf(adapted, values);
}

/** Logits of the model with the adapter as inputs. */
async function logitsOf(model, adapter, inputs) {
  const swappable = makeSwappable(model, { method: methodOf(adapter.type), config: adapter.config });
  const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
  const { logits } = await session.run({ ...inputs, ...adapterFeeds(swappable, adapter) }, ["logits"]);
  await session.close();
  return logits;
}

/** What peft found, by name. */
function loadInPeft(output, model, folders) {
  if (folders.length === 0) return {};
  const report = join(output, "report.json");
  const { error } = spawnSync(
    python,
    [join(here, "check_adapter.py"), "--base", model, "--report", report, "--adapter", ...folders],
    { stdio: "inherit" },
  );
  if (error) throw new Error(`Could not start ${python}: ${error.message}. Set PYTHON, or make parity/.venv.`);
  const found = JSON.parse(readFileSync(report, "utf8"));
  return Object.fromEntries(folders.map((folder) => [relative(output, folder), found[folder]]));
}

const output = await mkdtemp(join(tmpdir(), "onnx-peft-types-"));
const rows = [];
const results = {};
try {
  for (const group of groups) {
    const model = await readModel(group.model);
    const { given, feeds } = await inputsOf(group.inputs);
    const folders = [];
    for (const [name, reference] of group.folders) {
      if (wanted.length > 0 && !wanted.includes(name)) continue;
      const type = await typeOf(reference);
      try {
        if (!known.has(type)) throw new Error("no such method here");
        const adapter = await make(model, reference, group.noise);
        const folder = join(output, name);
        await writePeftFolder(folder, toPeft(adapter));
        const { dims, data } = await logitsOf(model, adapter, feeds);
        await writeSafetensors(`${folder}.safetensors`, [
          ...given,
          ["output.logits", tensorFrom("float32", dims, data)],
        ]);
        folders.push(folder);
        rows.push({ name, type });
      } catch (error) {
        rows.push({ name, type, problem: error.message.split(". ")[0] });
      }
    }
    Object.assign(results, loadInPeft(output, group.base, folders));
  }
  if (wanted.length === 0 || wanted.includes("xlora")) {
    const folder = join(output, "xlora");
    await writeXloraCase(golden, folder);
    rows.push({ name: "xlora", type: "XLORA" });
    Object.assign(results, loadInPeft(output, join(golden, "models/llama"), [folder]));
  }
  const found = rows
    .map((row) => ({ ...row, ...results[row.name] }))
    .map((row) => (row.ok === false && misread[row.type] ? { ...row, problem: misread[row.type] } : row));
  const file = join(here, "types.json");
  const before = wanted.length > 0 ? JSON.parse(await readFile(file, "utf8")).adapters : found;
  const kept = before.map((row) => found.find(({ name }) => name === row.name) ?? row);
  const all = [...kept, ...found.filter(({ name }) => !before.some((row) => row.name === name))];
  const loaded = all.filter((row) => row.ok);
  const types = [...new Set(loaded.map(({ type }) => type))];
  const content = { command: "npm run parity:types", tolerance: 1e-5, types: types.length, adapters: all };
  await writeFile(file, `${JSON.stringify(content, null, 2)}\n`);
  console.log(`${loaded.length} of ${all.length} adapters, ${types.length} types, give the same logits in peft`);
  process.exitCode = found.length > 0 && found.every(({ ok, problem }) => ok || problem) ? 0 : 1;
} finally {
  await rm(output, { recursive: true, force: true });
}
