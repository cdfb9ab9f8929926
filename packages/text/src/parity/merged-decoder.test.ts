import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { AutoModelForSeq2SeqLM, env, Tensor } from "@huggingface/transformers";
import {
  type Adapter,
  adapterFeeds,
  adapterOf,
  createRandom,
  encodeModel,
  injectAdapter,
  lora,
  makeSwappable,
  mergeAdapter,
  onnxruntimeNode,
  type RuntimeTensor,
  readModel,
  writeModel,
} from "@onnx-peft/core";
import { expect, test } from "vitest";

/** A T5 as transformers.js loads it: an encoder, and a decoder with and without a cache in one file. */
const golden = fileURLToPath(new URL("../../../../parity/golden/optimum", import.meta.url));
const files = {
  encoder: join(golden, "t5-encoder/encoder_model_slim.onnx"),
  decoder: join(golden, "t5-decoder/decoder_model_merged.onnx"),
};
const config = {
  ...{ model_type: "t5", architectures: ["T5ForConditionalGeneration"], is_encoder_decoder: true },
  ...{ num_layers: 2, num_decoder_layers: 2, num_heads: 4, d_kv: 8, d_model: 32, vocab_size: 120 },
  ...{ decoder_start_token_id: 0, pad_token_id: 0, eos_token_id: 1 },
};
const text = [5, 17, 30, 44];
const count = 8;

const ints = (dims: readonly number[], values: readonly number[]): RuntimeTensor => ({
  ...{ type: "int64", dims },
  data: BigInt64Array.from(values, BigInt),
});
const encoderFeeds = () => ({ input_ids: ints([1, 4], text), attention_mask: ints([1, 4], [1, 1, 1, 1]) });

/** Greedy tokens of transformers.js with this decoder: the first step runs without a cache, all others with it. */
async function generated(folder: string, decoder: string): Promise<number[]> {
  const home = await mkdtemp(join(folder, "home-"));
  await mkdir(join(home, "t5/onnx"), { recursive: true });
  await copyFile(files.encoder, join(home, "t5/onnx/encoder_model.onnx"));
  await copyFile(decoder, join(home, "t5/onnx/decoder_model_merged.onnx"));
  await writeFile(join(home, "t5/config.json"), JSON.stringify(config));
  env.localModelPath = home;
  env.allowRemoteModels = false;
  const model = await AutoModelForSeq2SeqLM.from_pretrained("t5", { dtype: "fp32", local_files_only: true });
  const long = (values: readonly number[]): Tensor => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, 4]);
  const found = await model.generate({
    ...{ inputs: long(text), attention_mask: long([1, 1, 1, 1]), max_new_tokens: count, do_sample: false },
  } as Parameters<typeof model.generate>[0]);
  await model.dispose();
  return (found as Tensor).tolist()[0].map(Number);
}

/** The same without transformers.js, without a cache and with the adapter beside the weights. */
async function expected(adapter: Adapter): Promise<number[]> {
  const encoder = await onnxruntimeNode.open(encodeModel(await readModel(files.encoder)), { threads: 1 });
  const { last_hidden_state: states } = await encoder.run(encoderFeeds());
  await encoder.close();
  const swappable = makeSwappable(await readModel(files.decoder), { method: lora, config: adapter.config });
  const session = await onnxruntimeNode.open(encodeModel(swappable.model), { threads: 1 });
  const tokens = [config.decoder_start_token_id];
  while (tokens.length <= count && tokens.at(-1) !== config.eos_token_id) {
    const { logits } = await session.run({
      ...{ input_ids: ints([1, tokens.length], tokens), encoder_attention_mask: ints([1, 4], [1, 1, 1, 1]) },
      encoder_hidden_states: states as RuntimeTensor,
      ...adapterFeeds(swappable, adapter),
    });
    const last = Array.from(logits?.data ?? [], Number).slice(-config.vocab_size);
    tokens.push(last.indexOf(Math.max(...last)));
  }
  await session.close();
  return tokens;
}

test("transformers.js generates with an adapter merged into a decoder of two branches", async () => {
  const folder = await mkdtemp(join(tmpdir(), "merged-decoder-"));
  try {
    const model = await readModel(files.decoder);
    const adapted = injectAdapter(model, { method: lora, config: { r: 4, alpha: 8, targetModules: "all-linear" } });
    const random = createRandom(3);
    const values = adapted.parameters.map(({ name, shape }) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return [name, Float32Array.from({ length: size }, () => 0.3 * random.normal())] as const;
    });
    const adapter = adapterOf(adapted, new Map(values));
    const path = join(folder, "merged.onnx");
    await writeModel(mergeAdapter(model, adapter), path);
    const tokens = await expected(adapter);
    expect(new Set(tokens).size).toBeGreaterThan(3); // a text that depends on what came before
    expect(await generated(folder, path)).toEqual(tokens);
    expect(await generated(folder, files.decoder)).not.toEqual(tokens);
  } finally {
    await rm(folder, { recursive: true });
  }
});
