// An X-LoRA of ours over the Llama of the golden models: experts and classifier are those that peft ran (golden/routers.*), moved.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  adapterFeeds,
  adapterOf,
  createRandom,
  encodeModel,
  fromPeft,
  initialParameters,
  injectAdapter,
  makeSwappable,
  onnxruntimeNode,
  readModel,
  readSafetensors,
  tensorFrom,
  toNumbers,
  withExperts,
  writeSafetensors,
  writeXloraFolder,
  xlora,
  xloraConfigOf,
} from "@onnx-peft/core";

/** Writes the adapter to `folder`, and inputs and logits beside it. */
export async function writeXloraCase(golden, folder) {
  const { adapters, token_tasks: names } = JSON.parse(await readFile(join(golden, "routers.json"), "utf8"));
  const { tensors } = await readSafetensors(join(golden, "routers.safetensors"));
  const under = (prefix) =>
    [...tensors].flatMap(([name, t]) => (name.startsWith(`${prefix}.`) ? [[name.slice(prefix.length + 1), t]] : []));
  const expert = (name) =>
    fromPeft({ config: { peft_type: "LORA", ...adapters[name] }, tensors: new Map(under(name)) });
  const experts = Object.fromEntries(names.map((name) => [name, expert(name)]));
  const model = await readModel(join(golden, "models/llama/onnx/model_torchscript.onnx"));
  const config = xloraConfigOf(experts, { hiddenSize: 32, layerwiseScalings: true, xloraDepth: 2, xloraSize: 8 });
  const adapted = injectAdapter(model, { method: xlora, config });
  const values = withExperts(adapted, initialParameters(adapted, 3), Object.values(experts));
  const random = createRandom("xlora");
  for (const { name, trainable } of adapted.parameters)
    if (trainable) for (let i = 0; i < values.get(name).length; i++) values.get(name)[i] += 0.4 * random.normal();
  const adapter = adapterOf(adapted, values);
  await writeXloraFolder(folder, adapter);
  const inputs = under("text");
  const feeds = Object.fromEntries(
    inputs.map(([name, t]) => [name, { type: "int64", dims: t.dims, data: BigInt64Array.from(toNumbers(t), BigInt) }]),
  );
  const swappable = makeSwappable(model, { method: xlora, config: adapter.config });
  const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
  const { logits } = await session.run({ ...feeds, ...adapterFeeds(swappable, adapter) }, ["logits"]);
  await session.close();
  await writeSafetensors(`${folder}.safetensors`, [
    ...inputs.map(([name, tensor]) => [`input.${name}`, tensor]),
    ["output.logits", tensorFrom("float32", logits.dims, logits.data)],
  ]);
}
