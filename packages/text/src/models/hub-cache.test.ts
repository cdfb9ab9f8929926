import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRandom, writeModel } from "@onnx-peft/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildEncoder } from "./build-encoder.ts";
import { initialBertWeights } from "./initial-weights.ts";
import { loadTextModel } from "./load-text-model.ts";

const config = {
  model_type: "bert",
  vocab_size: 40,
  hidden_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 64,
  max_position_embeddings: 16,
  type_vocab_size: 2,
};
let cache = "";

beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), "hub-cache-"));
});
afterAll(() => rm(cache, { recursive: true }));

/** An export with external data as the hub's cache holds it: every file is a link into `blobs`. */
async function cachedExport(name: string, blobs: string): Promise<string> {
  const snapshot = join(cache, name, "snapshots", "0123abc");
  const store = join(cache, name, blobs);
  await mkdir(join(snapshot, "onnx"), { recursive: true });
  await mkdir(store, { recursive: true });
  const model = buildEncoder(config, initialBertWeights(config, createRandom(1), 2), { type: "none" });
  const made = join(cache, name, "made");
  await mkdir(made);
  await writeModel(model, join(made, "model.onnx"), { externalData: { fileName: "model.onnx_data", threshold: 1024 } });
  await writeFile(join(made, "config.json"), JSON.stringify(config));
  for (const [file, at, depth] of [
    ["config.json", "config.json", "../.."],
    ["model.onnx", "onnx/model.onnx", "../../.."],
    ["model.onnx_data", "onnx/model.onnx_data", "../../.."],
  ] as const) {
    await rename(join(made, file), join(store, `hash-of-${file}`));
    await symlink(join(depth, blobs, `hash-of-${file}`), join(snapshot, at));
  }
  return snapshot;
}

test("an export in the hub's cache, with its links into blobs, is loaded", async () => {
  const { model } = await loadTextModel({ model: await cachedExport("models--a--b", "blobs") }, { type: "none" });
  expect([...model.graph.initializers.keys()]).toContain("encoder.layer.0.attention.self.query.weight");
});

test("links that lead elsewhere are refused", async () => {
  const loading = loadTextModel({ model: await cachedExport("models--c--d", "elsewhere") }, { type: "none" });
  await expect(loading).rejects.toMatchObject({ code: "ONNX_EXTERNAL_DATA" });
});
