import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  buildAdapterProgram,
  decodeModel,
  injectAdapter,
  lora,
  type PrefixEvent,
  splitProgram,
  type TrainEvent,
  type TrainOptionsInput,
} from "@onnx-peft/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadTextModel } from "../models/load-text-model.ts";
import { hidden, writeTinyModel } from "../models/testing/tiny-checkpoint.ts";
import { type FineTuneOptions, fineTune } from "./fine-tune.ts";
import { sentenceEmbedding } from "./sentence-embedding.ts";
import { sequenceClassification } from "./sequence-classification.ts";
import { taskGraph } from "./task-graph.ts";
import { tokenClassification } from "./token-classification.ts";

const root = mkdtempSync(join(tmpdir(), "onnx-peft-prefix-"));
let plain: string;
let dropping: string;
beforeAll(() => {
  plain = writeTinyModel("bert", join(root, "plain"));
  dropping = writeTinyModel("bert", join(root, "dropping"));
  const path = join(dropping, "config.json");
  const config = JSON.parse(readFileSync(path, "utf8"));
  writeFileSync(path, JSON.stringify({ ...config, hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1 }));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Eleven texts of 3 to 13 tokens. */
const texts = Array.from({ length: 11 }, (_, i) => ({
  inputIds: Int32Array.from({ length: 3 + ((i * 7) % 11) }, (_token, t) => 5 + ((i * 13 + t * 5) % 80)),
}));
const bytesOfAll = texts.reduce((sum, { inputIds }) => sum + 4 * hidden * inputIds.length, 0);
const task = sequenceClassification({ labels: ["no", "yes"] });
const samples = texts.map((text, i) => ({ ...text, label: i % 2 }));
const adapter = { r: 2, alpha: 4, targetModules: ".*layer\\.1\\.attention.*(query|value)" };
const options: TrainOptionsInput = {
  epochs: 3,
  batchSize: 4,
  microBatchTokens: 24,
  optimizer: { type: "adamw", learningRate: 0.01 },
  isolation: "inline",
  threads: 1,
};

async function losses(
  changes: TrainOptionsInput | Record<string, unknown>,
  run: Partial<FineTuneOptions<(typeof samples)[number]>> = {},
  folder = plain,
) {
  const events: TrainEvent[] = [];
  const tuned = await fineTune({
    model: await loadTextModel({ model: folder }, task.head),
    task,
    train: samples,
    adapter,
    onEvent: (event) => events.push(event),
    ...run,
    options: { ...options, ...changes } as TrainOptionsInput,
  });
  await tuned.close();
  const prefix = events.find((event): event is PrefixEvent => event.type === "prefix");
  return { losses: tuned.training.losses, parameters: tuned.training.parameters, prefix };
}

type Found = Pick<Awaited<ReturnType<typeof losses>>, "losses" | "parameters">;

function expectClose(found: Found, expected: Found, tolerance: number): void {
  expect(found.losses).toHaveLength(expected.losses.length);
  found.losses.forEach((loss, i) => {
    expect(Math.abs(loss / expected.losses[i]! - 1)).toBeLessThan(tolerance);
  });
  for (const [name, { data }] of Object.entries(expected.parameters)) {
    const norm = Math.hypot(...(data as Float32Array));
    const other = found.parameters[name]!.data;
    expect(Math.hypot(...(data as Float32Array).map((x, i) => x - Number(other[i])))).toBeLessThan(
      10 * tolerance * norm,
    );
  }
}

describe("the last layer is adapted", () => {
  test("losses and parameters are those without the cache, in memory, on disk, in part, with recomputation", async () => {
    const expected = await losses({});
    const memory = await losses({ prefixCache: "memory" });
    expectClose(memory, expected, 1e-6);
    expect(memory.prefix).toMatchObject({ kept: 11, left: 0, bytes: bytesOfAll });
    expect(memory.prefix?.values.map(({ shape }) => shape.at(-1))).toEqual([hidden]);
    expectClose(await losses({ prefixCache: "memory", recompute: "blocks" }), expected, 1e-6);
    const folder = join(root, "disk");
    mkdirSync(folder);
    let seen: string[] = [];
    const disk = await losses(
      { prefixCache: { folder } },
      {
        onEvent() {
          seen = readdirSync(folder);
        },
      },
    );
    expectClose(disk, memory, 1e-9);
    expect(seen).toHaveLength(1);
    expect(readdirSync(folder)).toEqual([]);
    const part = await losses({ prefixCache: { maxBytes: bytesOfAll / 2 } });
    expectClose(part, expected, 1e-6);
    expect(part.prefix!.left).toBeGreaterThan(3);
    expect(part.prefix!.bytes).toBeLessThanOrEqual(bytesOfAll / 2);
    const none = await losses({ prefixCache: { maxBytes: 1 } });
    expect(none.prefix).toMatchObject({ kept: 0, left: 11, bytes: 0 });
    expectClose(none, expected, 1e-6);
    const half = await losses({ prefixCache: { folder, precision: "float16" } });
    expect(half.prefix?.bytes).toBe(bytesOfAll / 2);
    expectClose(half, expected, 1e-2);
    expect(Math.abs(half.losses[0]! / expected.losses[0]! - 1)).toBeGreaterThan(1e-9);
  });

  test("the adapter's own dropout, above the cut, draws the same masks", async () => {
    const own = { adapter: { ...adapter, dropout: 0.3 } };
    const expected = await losses({}, own);
    expectClose(await losses({ prefixCache: "memory" }, own), expected, 1e-6);
    expectClose(await losses({ prefixCache: "memory", prefixDropout: "off" }, own), expected, 1e-6);
    expect(expected.losses).not.toEqual((await losses({})).losses);
  });

  test("in processes of their own", async () => {
    const found = await losses({ prefixCache: "memory", isolation: "process", epochs: 2 });
    expectClose(found, await losses({ epochs: 2 }), 1e-6);
  });

  test("a run that was interrupted fills the cache again and goes on to the bit", async () => {
    const settings = { prefixCache: { maxBytes: bytesOfAll / 2 } };
    const whole = await losses(settings);
    const folder = join(root, "resumed");
    const controller = new AbortController();
    await losses(settings, {
      folder,
      signal: controller.signal,
      onEvent: (event) => event.type === "progress" && event.step === 4 && controller.abort(),
    });
    const resumed = await losses(settings, { folder });
    expect(resumed.losses).toEqual(whole.losses);
    expect(resumed.parameters).toEqual(whole.parameters);
    const early = new AbortController();
    early.abort();
    expect((await losses(settings, { signal: early.signal })).losses).toEqual([]);
  });

  test("a label of every token, and texts in pairs", async () => {
    const tagged = texts.map((text, i) => ({ ...text, labels: text.inputIds.map((id) => (id + i) % 2) }));
    const pairs = texts.map((text, i) => ({ texts: [text, texts[(i + 4) % 11]!] }));
    const runs = [
      { task: tokenClassification({ labels: ["a", "b"] }), train: tagged },
      { task: sentenceEmbedding({ objective: "multiple-negatives" }), train: pairs },
      {
        task: sentenceEmbedding({ objective: "cosine" }),
        train: pairs.map((pair, i) => ({ ...pair, similarity: i / 11 })),
      },
    ] as unknown as Pick<FineTuneOptions<(typeof samples)[number]>, "task" | "train">[];
    for (const run of runs) {
      const model = await loadTextModel({ model: plain }, run.task.head);
      const expected = await losses({}, { ...run, model });
      expectClose(await losses({ prefixCache: "memory" }, { ...run, model }), expected, 5e-6);
    }
  });
});

test("a model built from a checkpoint of transformers is cut at its block", async () => {
  const folder = fileURLToPath(new URL("../../../../parity/golden/models/bert", import.meta.url));
  const { model } = await loadTextModel({ model: folder }, task.head);
  const adapted = injectAdapter(model, { method: lora, config: adapter, training: true });
  const program = buildAdapterProgram(adapted, task.loss(taskGraph(adapted, task.head)));
  const { cut, axes, suffix } = splitProgram(program, { prefixDropout: "off" });
  expect(cut.map(({ shape }) => shape)).toEqual([[`${axes.batch}*${axes.tokens}`, 32]]);
  // Weights below the cut are not part of the graph that is run in every step.
  const weightsOf = ({ bytes }: typeof program.graph): string =>
    [...decodeModel(bytes, { folder }).graph.initializers.keys()].join();
  expect(weightsOf(program.graph)).toMatch(/word_embeddings/);
  const names = weightsOf(suffix.graph);
  expect(names).not.toMatch(/word_embeddings|layer\.0/);
  expect(names).toMatch(/layer\.1/);
});

describe("dropout in frozen layers", () => {
  test("is refused, or left out below the cut and kept above", async () => {
    await expect(losses({ prefixCache: "memory" }, {}, dropping)).rejects.toMatchObject({
      code: "NO_PREFIX",
      message: expect.stringContaining('prefixDropout "off"'),
    });
    const without = await losses({ prefixCache: "memory" });
    const found = await losses({ prefixCache: "memory", prefixDropout: "off" }, {}, dropping);
    expect(found.prefix?.values.map(({ shape }) => shape.at(-1))).toEqual([hidden]);
    expect(found.losses).not.toEqual(without.losses);
    expect(Math.abs(found.losses[0]! / without.losses[0]! - 1)).toBeLessThan(0.3);
  });
});

test("what does not go together is refused", async () => {
  await expect(losses({ prefixCache: "memory" }, { compute: "int8" })).rejects.toMatchObject({
    code: "CONFIG_INVALID",
  });
  const everywhere = { r: 2, targetModules: "all-linear" } as const;
  await expect(losses({ prefixCache: "memory" }, { adapter: everywhere })).rejects.toMatchObject({ code: "NO_PREFIX" });
  await expect(losses({ prefixDropout: "off" })).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  await expect(losses({ prefixCache: { maxBytes: 0 } })).rejects.toMatchObject({ code: "CONFIG_INVALID" });
});
