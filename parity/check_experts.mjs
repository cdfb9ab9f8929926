// Makes adapters at parameters of experts, moves every tensor, and lets peft load them: npm run parity:experts (its last part is Python).
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process, { env } from "node:process";
import { fileURLToPath } from "node:url";
import {
  adapterOf,
  createRandom,
  encodeModel,
  fromPeft,
  initialParameters,
  injectAdapter,
  lora,
  mergeAdapter,
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

const here = fileURLToPath(new URL(".", import.meta.url));
const golden = join(here, "golden/experts");
const python = env["PYTHON"] ?? join(here, ".venv/bin/python");

/** Models whose class does not say that it stores [experts, in, out]. */
const swapped = new Set(["llama4"]);

/** An adapter of ours with the options of peft's, and the logits of the model that it is merged into. */
async function write(name, output) {
  const model = await readModel(join(golden, name, "model_torchscript.onnx"));
  const { config } = fromPeft(await readPeftFolder(join(golden, name, "adapter")));
  const adapted = injectAdapter(model, { method: lora, config });
  const random = createRandom(`experts ${name}`);
  const values = initialParameters(adapted, 7);
  for (const data of values.values()) for (let i = 0; i < data.length; i++) data[i] += 0.1 * random.normal();
  const adapter = adapterOf(adapted, values);
  await writePeftFolder(join(output, name), toPeft(adapter, { swapExperts: swapped.has(name) }));
  const { tensors } = await readSafetensors(join(golden, name, "golden.safetensors"));
  const input = tensors.get("input");
  const feed =
    input.type === "int64" ? BigInt64Array.from(toNumbers(input), BigInt) : Float32Array.from(toNumbers(input));
  const session = await onnxruntimeNode.open(encodeModel(mergeAdapter(model, adapter)), { threads: 1 });
  const [key] = session.inputNames;
  const { logits } = await session.run({ [key]: { type: input.type, dims: input.dims, data: feed } });
  await session.close();
  await writeSafetensors(join(output, `${name}.safetensors`), [
    ["input", input],
    ["output.logits", tensorFrom("float32", logits.dims, logits.data)],
  ]);
}

const output = await mkdtemp(join(tmpdir(), "onnx-peft-experts-"));
try {
  for (const name of await readdir(golden)) await write(name, output);
  const { status, error } = spawnSync(python, [join(here, "check_experts.py"), output], { stdio: "inherit" });
  if (error) throw new Error(`Could not start ${python}: ${error.message}. Set PYTHON, or make parity/.venv.`);
  process.exitCode = status ?? 1;
} finally {
  await rm(output, { recursive: true, force: true });
}
