import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeModel, readModel } from "../../onnx/read.ts";
import { onnxruntimeNode } from "../../runtime/onnxruntime-node.ts";
import type { Feeds } from "../../runtime/runtime.ts";
import { createEngine } from "../engine.ts";
import type { TrainingProgram } from "../program.ts";
import { withRecomputation } from "../recompute.ts";
import { golden, goldenFeeds, loraTraining } from "../testing/golden-training.ts";
import { splitProgram } from "./split-program.ts";

/** LoRA on the linear layers of one layer and what lies above; cross-entropy of every row of logits. */
const trainingOf = async (name: string, file: string, targetModules: string, dropout = 0) =>
  loraTraining(await readModel(join(golden, "models", name, "onnx", file)), targetModules, dropout);

const pick = (inputs: readonly { name: string }[], feeds: Feeds): Feeds =>
  Object.fromEntries(inputs.map(({ name }) => [name, feeds[name]!]));

async function stepOf(training: TrainingProgram, parameters: Feeds, feeds: Feeds) {
  const optimizer = { type: "sgd", learningRate: 1 } as const;
  const engine = await createEngine(onnxruntimeNode, { training, parameters, optimizer, seed: 3, threads: 1 });
  try {
    const { loss, gradNorm } = await engine.step({ step: 0, runs: [feeds], learningRateScale: 1 });
    return { loss, gradNorm, parameters: (await engine.state()).parameters };
  } finally {
    await engine.close();
  }
}

const lastLayer: Readonly<Record<string, string>> = {
  bert: ".*layer\\.1\\.attention.*(query|value)",
  gpt2: ".*h\\.1\\.(attn|mlp)\\.c_\\w+",
  llama: ".*layers\\.1\\..*_proj",
};
const files = Object.keys(lastLayer).flatMap((name) =>
  readdirSync(join(golden, "models", name, "onnx"))
    .filter((file) => file.endsWith(".onnx"))
    .map((file) => ({ name, file })),
);

describe.each(files)("$name/$file", ({ name, file }) => {
  test("one value at the block's boundary is kept, and a step is the same", async () => {
    const { program, parameters } = await trainingOf(name, file, lastLayer[name]!);
    const split = splitProgram(program);
    expect(split.cut.map(({ shape }) => shape)).toEqual([[split.axes.batch, split.axes.tokens, 32]]);
    expect(split.workShare).toBeGreaterThan(0.1);
    const weightsOf = ({ bytes }: { bytes: Uint8Array }) =>
      [...decodeModel(bytes).graph.initializers.values()].reduce((sum, { data }) => sum + data.length, 0);
    expect(weightsOf(split.suffix.graph)).toBeLessThan(0.75 * weightsOf(program.graph));
    const feeds = await goldenFeeds(name, program);
    const engine = await createEngine(onnxruntimeNode, { evaluation: split.prefix, parameters: {}, seed: 0 });
    const kept = await engine.evaluate(pick(split.prefix.inputs, feeds));
    await engine.close();
    const above = pick(split.suffix.inputs, { ...feeds, ...kept });
    const expected = await stepOf(program, parameters, feeds);
    for (const suffix of [split.suffix, withRecomputation(split.suffix)]) {
      const found = await stepOf(suffix, parameters, above);
      expect(Math.abs(found.loss / expected.loss - 1)).toBeLessThan(1e-6);
      expect(Math.abs(found.gradNorm / expected.gradNorm - 1)).toBeLessThan(1e-6);
      for (const [parameter, { data }] of Object.entries(expected.parameters)) {
        const other = found.parameters[parameter]!.data;
        const norm = Math.hypot(...(data as Float32Array));
        expect(Math.hypot(...(data as Float32Array).map((x, i) => x - Number(other[i])))).toBeLessThan(1e-6 * norm);
      }
    }
  });
});

describe("what leaves nothing to keep is refused", () => {
  test("adapters in the lowest layer", async () => {
    const { program } = await trainingOf("bert", "model_torchscript.onnx", ".*layer\\.0\\.attention.*(query|value)");
    expect(() => splitProgram(program, { prefixDropout: "off" })).toThrow(
      expect.objectContaining({ code: "NO_PREFIX", message: expect.stringContaining("Less than 10 %") }),
    );
  });
});
