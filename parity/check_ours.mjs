// Fine-tunes tiny models here and lets peft load the result: npm run parity (its last part is Python: see README.md).
import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process, { env } from "node:process";
import { fileURLToPath } from "node:url";
import {
  convertToLora,
  createRandom,
  dylora,
  loldu,
  mos,
  multitaskPromptTuning,
  onnxruntimeNode,
  paca,
  prefixTuning,
  promptTuning,
  pTuning,
  randlora,
  svf,
  tensorFrom,
  truncateDylora,
  writeSafetensors,
} from "@onnx-peft/core";
import {
  diffora,
  fineTune,
  lnTuning,
  loadTextModel,
  lora,
  padBatch,
  saveResult,
  sentenceEmbedding,
  sequenceClassification,
} from "@onnx-peft/text";

const here = fileURLToPath(new URL(".", import.meta.url));
const python = env["PYTHON"] ?? join(here, ".venv/bin/python");

const squares = { targetModules: ["query", "value"] };
const asLora =
  (rank) =>
  ({ model, adapter }) =>
    convertToLora(model.model, adapter, { rank }).adapter;

/** A way of making an adapter whose files peft must read as we mean them. Every head is trained as well. */
const cases = [
  { name: "lora", model: "bert", method: lora, adapter: { r: 4, alpha: 8, targetModules: ["query", "value"] } },
  { name: "ln-tuning", model: "bert", method: lnTuning, adapter: {} },
  {
    name: "lora-over-export",
    model: "bert",
    onnxFile: "onnx/model_dynamo.onnx",
    method: lora,
    adapter: { r: 4, alpha: 8, targetModules: "all-linear" },
  },
  { name: "prefix", model: "bert", method: prefixTuning, adapter: { numVirtualTokens: 5 } },
  {
    name: "prefix-projection",
    model: "bert",
    onnxFile: "onnx/model_torchscript.onnx",
    method: prefixTuning,
    adapter: { numVirtualTokens: 5, prefixProjection: true, encoderHiddenSize: 12 },
  },
  {
    name: "prompt",
    model: "roberta",
    method: promptTuning,
    adapter: { numVirtualTokens: 5, promptTuningInit: "SAMPLE_VOCAB" },
  },
  {
    name: "p-tuning-lstm",
    model: "bert",
    method: pTuning,
    adapter: { numVirtualTokens: 5, encoderHiddenSize: 8, encoderReparameterizationType: "LSTM" },
  },
  {
    name: "multitask",
    model: "bert",
    method: multitaskPromptTuning,
    adapter: { numVirtualTokens: 5, numRanks: 2 },
    // peft asks for the task of every row, of a single task too.
    tasksOf: (rows) => tensorFrom("int64", [rows], new Array(rows).fill(0)),
  },
  {
    name: "lora-patterns",
    model: "distilbert",
    method: lora,
    adapter: {
      r: 4,
      alpha: 6,
      useRslora: true,
      rankPattern: { q_lin: 2 },
      alphaPattern: { "layer.1.attention.v_lin": 3 },
      targetModules: ["q_lin", "v_lin", "lin1"],
    },
  },
  {
    name: "lora-regex",
    model: "roberta",
    method: lora,
    adapter: { r: 3, alpha: 5, targetModules: ".*layer\\.1\\..*(query|dense)" },
  },
  {
    name: "lora-embedding",
    model: "bert-model",
    method: lora,
    adapter: { r: 4, alpha: 8, targetModules: ["query", "value"] },
    task: sentenceEmbedding({ objective: "multiple-negatives" }),
    sampleOf: (text, other) => ({ texts: [text, other] }),
  },
  { name: "randlora", model: "bert", method: randlora, adapter: { r: 4, alpha: 20, ...squares } },
  // Methods that peft does not have, written as LoRA.
  {
    name: "dylora-cut",
    model: "bert",
    method: dylora,
    adapter: { rMax: 4, alpha: 8, ...squares },
    written: ({ adapter }) => truncateDylora(adapter, 2),
  },
  {
    name: "mos-as-lora",
    model: "bert",
    method: mos,
    adapter: { r: 3, equivalentRank: 2, privateRank: 1, shardsPerVector: 4, ...squares },
    written: asLora(3),
  },
  { name: "paca-as-lora", model: "bert", method: paca, adapter: { r: 4, alpha: 8, ...squares }, written: asLora(4) },
  { name: "loldu-as-lora", model: "bert", method: loldu, adapter: { r: 8, ...squares }, written: asLora(8) },
  { name: "svf-as-lora", model: "bert", method: svf, adapter: squares, written: asLora(32) },
  {
    name: "diffora",
    model: "bert",
    search: { r: 4, alpha: 8, ratio: 0.34, searchSteps: 6, gateLearningRate: 0.05 },
  },
];

const labels = ["a", "b", "c"];
const classification = sequenceClassification({ labels });

/** Texts of 3 to 12 tokens, each out of its class's third of the vocabulary, as are neighbours at a distance of three. */
function makeTexts(count) {
  const random = createRandom("parity");
  const [first, third] = [3, 39];
  return Array.from({ length: count }, (_, i) => {
    const label = i % labels.length;
    const token = () => first + third * label + random.integer(third);
    return { inputIds: Int32Array.from({ length: 3 + random.integer(10) }, token), label };
  });
}

/** Runs the merged model that was saved, and writes its inputs and output for check_adapter.py. */
async function writeGolden(path, modelFile, texts, padId, tasksOf) {
  const session = await onnxruntimeNode.open(modelFile, { threads: 1 });
  const feeds = Object.fromEntries(
    Object.entries(padBatch(texts, padId)).filter(([n]) => session.inputNames.includes(n)),
  );
  const [[name, output]] = Object.entries(await session.run(feeds));
  await session.close();
  const inputs = Object.entries(feeds).map(([n, { dims, data }]) => [`input.${n}`, tensorFrom("int64", dims, data)]);
  if (tasksOf) inputs.push(["input.task_ids", tasksOf(texts.length)]);
  await writeSafetensors(path, [...inputs, [`output.${name}`, tensorFrom("float32", output.dims, output.data)]]);
}

/** Fine-tunes, saves, and returns the exit code of peft's side, which prints the difference. */
async function check(one, output) {
  const {
    name,
    model: folder,
    onnxFile,
    method,
    adapter,
    search: searched,
    task = classification,
    sampleOf,
    written,
  } = one;
  const base = join(here, "golden/models", folder);
  const model = await loadTextModel({ model: base, ...(onnxFile ? { onnxFile } : {}) }, task.head);
  const options = {
    epochs: 3,
    batchSize: 8,
    optimizer: { type: "adamw", learningRate: 5e-3 },
    isolation: "inline",
    threads: 1,
  };
  const texts = makeTexts(51);
  const samples = texts.slice(3).map((text, i) => (sampleOf ? sampleOf(text, texts[i]) : text));
  const run = { model, task, train: samples, options };
  const { tuned } = searched
    ? await diffora({ ...run, search: searched })
    : { tuned: await fineTune({ ...run, method, adapter }) };
  await tuned.close();
  const { losses, steps } = tuned.training;
  console.log(`${name} (${folder}): ${steps} steps, loss ${losses[0].toFixed(3)} to ${losses.at(-1).toFixed(3)}`);
  const result = join(output, name);
  await saveResult(result, written ? { ...tuned, adapter: written(tuned) } : tuned);
  const golden = join(output, `${name}.safetensors`);
  const padId = model.config.pad_token_id ?? 0;
  await writeGolden(golden, join(result, "merged/onnx/model.onnx"), texts.slice(0, 9), padId, one.tasksOf);
  const given = ["--base", base, "--adapter", join(result, "adapter"), "--golden", golden];
  const { status, error } = spawnSync(python, [join(here, "check_adapter.py"), ...given], { stdio: "inherit" });
  if (error) throw new Error(`Could not start ${python}: ${error.message}. Set PYTHON, or make parity/.venv.`);
  return status ?? 1;
}

const wanted = process.argv.slice(2);
const chosen = cases.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
const output = await mkdtemp(join(tmpdir(), "onnx-peft-parity-"));
let failed = chosen.length === 0 ? 1 : 0;
try {
  for (const one of chosen) if ((await check(one, output)) !== 0) failed++;
} finally {
  await rm(output, { recursive: true, force: true });
}
console.log(failed === 0 ? `${chosen.length} adapters agree with peft` : `${failed} of ${chosen.length} failed`);
process.exitCode = failed === 0 ? 0 : 1;
