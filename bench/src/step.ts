/**
 * Times one complete LoRA training step of this engine: embeddings, dropout, loss, backward, optimiser.
 *   node bench/dist/step.js mini|base [--micro 512] [--steps 12] [--warmup 2] [--threads 2] [--dropout 0.1] [--recompute]
 *     [--compute float32|int8] [--storage int8|int4|nf4] [--device cpu|cuda|webgpu] [--model <folder, made where absent and kept>]
 *     [--setting use_device_allocator_for_initializers=1] [--memory-pattern]   (in this process then)
 * Prints one line of JSON.
 */
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  buildTrainingProgram,
  createEngine,
  createEngineProcess,
  createInt8Plan,
  createRandom,
  createTensorFile,
  type Device,
  detectWeightBits,
  type Feeds,
  injectAdapter,
  lora,
  onnxruntimeNode,
  type Runtime,
  trainableValues,
  withPooledMasks,
  withRecomputation,
} from "@onnx-peft/core";
import { loadTextModel, sequenceClassification, startValues, taskGraph } from "@onnx-peft/text";
import { writeRandomModel } from "./random-model.ts";
import { type ShapeName, type StepFigures, shapes } from "./shapes.ts";
import { type Storage, storedModel } from "./stored-model.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    micro: { type: "string", default: "512" },
    steps: { type: "string", default: "12" },
    threads: { type: "string", default: "2" },
    dropout: { type: "string", default: "0.1" },
    compute: { type: "string", default: "float32" },
    storage: { type: "string" },
    recompute: { type: "boolean", default: false },
    warmup: { type: "string", default: "2" },
    device: { type: "string", default: "cpu" },
    model: { type: "string" },
    setting: { type: "string", multiple: true, default: [] },
    "memory-pattern": { type: "boolean", default: false },
  },
});
/** The runtime with settings that no option of a training has. */
const tunedRuntime = (): Runtime => ({
  ...onnxruntimeNode,
  open: (model, options) =>
    onnxruntimeNode.open(model, {
      ...options,
      memoryPattern: values["memory-pattern"],
      settings: Object.fromEntries(values.setting.map((setting) => setting.split("="))),
    }),
});

const shape = shapes[(positionals[0] ?? "mini") as ShapeName];
const dropout = Number(values.dropout);
const folder = await mkdtemp(join(tmpdir(), "onnx-peft-bench-"));
try {
  const config = { ...shape.config, hidden_dropout_prob: dropout, attention_probs_dropout_prob: dropout };
  const place = values.model ?? folder;
  if (!existsSync(join(place, "model.safetensors"))) await writeRandomModel(place, config);
  await writeFile(join(place, "config.json"), JSON.stringify(config));
  const task = sequenceClassification({ labels: ["no", "yes"] });
  const loaded = (await loadTextModel({ model: place }, task.head)).model;
  const model = values.storage ? await storedModel(folder, loaded, values.storage as Storage) : loaded;
  const quantized = async () => {
    const file = createTensorFile(join(folder, "int8.weights"));
    const plan = createInt8Plan(model, { bits: await detectWeightBits(onnxruntimeNode), store: file.append });
    file.close();
    return plan;
  };
  const adapted = injectAdapter(model, {
    method: lora,
    config: { r: 8, alpha: 16, targetModules: ["query", "value"], modulesToSave: ["classifier"] },
    training: true,
  });
  const int8 = values.compute === "int8" ? await quantized() : null;
  const program = buildTrainingProgram(
    adapted.g,
    task.loss(taskGraph(adapted)),
    trainableValues(adapted),
    int8 ? { int8 } : {},
  );
  const kept = values.recompute ? withRecomputation(program) : program;
  const training = values.device === "cpu" ? kept : withPooledMasks(kept, values.device as Device);
  const parameters = startValues(adapted, 1);
  const setup = {
    training,
    parameters,
    optimizer: { type: "adamw", learningRate: 1e-4 } as const,
    seed: 1,
    threads: Number(values.threads),
    device: values.device as Device,
  };
  const isTuned = values.setting.length > 0 || values["memory-pattern"];
  const engine = isTuned ? await createEngine(tunedRuntime(), setup) : await createEngineProcess(setup);
  const random = createRandom(2);
  const perRun = Math.max(1, Math.floor(Number(values.micro) / shape.tokens));
  const runs: Feeds[] = [];
  for (let first = 0; first < shape.batch; first += perRun) {
    const rows = Math.min(perRun, shape.batch - first);
    const dims = [rows, shape.tokens];
    const fill = (f: () => bigint): BigInt64Array => BigInt64Array.from({ length: rows * shape.tokens }, f);
    runs.push({
      input_ids: { type: "int64", dims, data: fill(() => BigInt(random.integer(30000))) },
      attention_mask: { type: "int64", dims, data: fill(() => 1n) },
      token_type_ids: { type: "int64", dims, data: fill(() => 0n) },
      labels: {
        type: "int64",
        dims: [rows],
        data: BigInt64Array.from({ length: rows }, () => BigInt(random.integer(2))),
      },
    });
  }
  const times: number[] = [];
  let peak = 0;
  for (let step = 0; step < Number(values.steps); step++) {
    const started = performance.now();
    const result = await engine.step({ step, runs, learningRateScale: 1 });
    times.push(performance.now() - started);
    peak = result.peakRssBytes;
  }
  await engine.close();
  const counted = times.slice(Number(values.warmup)).sort((a, b) => a - b);
  const medianMs = counted[counted.length >> 1] ?? Number.NaN;
  const figures: StepFigures = {
    medianMs,
    minMs: counted[0] ?? Number.NaN,
    tokensPerSecond: (shape.batch * shape.tokens * 1000) / medianMs,
    peakMb: peak / 2 ** 20,
  };
  console.log(JSON.stringify(figures));
} finally {
  await rm(folder, { recursive: true });
}
