import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { initialParameters } from "../adapters/adapter.ts";
import { injectAdapter } from "../adapters/inject.ts";
import { lora } from "../methods/lora.ts";
import type { Model } from "../onnx/ir.ts";
import { buildAdapterProgram } from "./adapter-program.ts";
import { alignWeights } from "./aligned-weights.ts";
import { createEngineProcess } from "./engine-process.ts";
import { compressedLayers, compressedModel, WIDTH } from "./testing/compressed-models.ts";

const LAYERS = 24;
const ROWS = 16;
const FLOAT32_BYTES = 4 * WIDTH ** 2 * LAYERS;

/** Highest resident memory of a training process over three steps, with the weights in a file of its own. */
async function peakOf(model: Model): Promise<{ peakBytes: number; fileBytes: number }> {
  await using weights = await alignWeights(model);
  // The first layer is adapted, so the gradient passes all others.
  const adapted = injectAdapter(weights.model, { method: lora, config: { r: 2, targetModules: ["0"] } });
  const y = adapted.outputs.get("y")!;
  const loss = {
    sum: adapted.g.reduceSum(adapted.g.mul(y, y), [0, 1], false),
    weight: adapted.g.constant("float32", 1),
  };
  const training = buildAdapterProgram(adapted, loss);
  const values = initialParameters(adapted, 1);
  const parameters = adapted.parameters.map(({ name, shape }) => [
    name,
    { type: "float32", dims: shape, data: values.get(name)! } as const,
  ]);
  const engine = await createEngineProcess({
    training,
    parameters: Object.fromEntries(parameters),
    optimizer: { type: "adamw", learningRate: 1e-4 },
    seed: 1,
    threads: 2,
  });
  try {
    const x = { type: "float32", dims: [ROWS, WIDTH], data: new Float32Array(ROWS * WIDTH).fill(0.01) } as const;
    let peakBytes = 0;
    for (let step = 0; step < 3; step++) {
      const result = await engine.step({ step, runs: [{ x }], learningRateScale: 1 });
      expect(result.gradNorm).toBeGreaterThan(0);
      peakBytes = Math.max(peakBytes, result.peakRssBytes);
    }
    return { peakBytes, fileBytes: weights.writtenBytes };
  } finally {
    await engine.close();
  }
}

// MatMulNBits takes a buffer from the system on every call. glibc may keep what was given back, up to 60 MB here, depending
// on how threads meet; with a fixed threshold such buffers go back at once, and what stays is what a run needs.
vi.stubEnv("MALLOC_MMAP_THRESHOLD_", String(2 ** 20));
afterAll(() => void vi.unstubAllEnvs());

/** Of a process that trains through one layer more than none: Node, ONNX Runtime, and what one layer needs while it runs. */
let small: Awaited<ReturnType<typeof peakOf>>;
beforeAll(async () => {
  small = await peakOf(compressedModel(compressedLayers["MatMulNBits, 4 bits in blocks of 32"]!, 2));
});

test.each(Object.entries(compressedLayers))("%s stays compressed while it is trained through", async (_, layer) => {
  const { peakBytes, fileBytes } = await peakOf(compressedModel(layer, LAYERS));
  expect(fileBytes).toBeLessThanOrEqual(0.51 * FLOAT32_BYTES);
  // The pages of the file count as resident.
  expect(peakBytes - small.peakBytes - fileBytes).toBeLessThan(0.2 * FLOAT32_BYTES);
});
