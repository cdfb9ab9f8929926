import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RUNTIME_BYTES } from "../memory/estimate.ts";
import { checkMemory, estimateRun } from "./check-memory.ts";
import { trainOptions } from "./options.ts";
import { tinyRun, tinySamples } from "./testing/tiny-task.ts";
import { train } from "./trainer.ts";

const run = tinyRun({ options: { microBatchTokens: 512, batchSize: 32 } as never });
const options = trainOptions.parse(run.options);
const totalOf = async (settings = options): Promise<number> => (await estimateRun(run, options, settings)).totalBytes;

test("the estimate grows with the micro-batch and falls with recomputation", async () => {
  const whole = await estimateRun(run, options);
  const small = await estimateRun(run, options, { ...options, microBatchTokens: 64 });
  expect(whole.activationBytes).toBeGreaterThan(2 * small.activationBytes);
  expect(whole.trainedParameters).toBe(Object.values(run.parameters).reduce((sum, { data }) => sum + data.length, 0));
  expect(small.totalBytes).toBeGreaterThan(RUNTIME_BYTES);
});

test("a run that fits is let through", async () => {
  await expect(checkMemory(run, options, await totalOf())).resolves.toBeUndefined();
});

test("one that does not is refused before anything starts, with the setting that would fit", async () => {
  const folder = await mkdtemp(join(tmpdir(), "check-memory-test-"));
  try {
    const availableMemory = await totalOf({ ...options, microBatchTokens: 128 });
    const tight = { ...run, folder, options: { ...run.options, availableMemory } };
    await expect(train(tight)).rejects.toMatchObject({
      code: "MEMORY_EXCEEDED",
      message: expect.stringMatching(/would take about \d+ MB, and \d+ MB are free/),
      details: {
        estimatedBytes: await totalOf(),
        availableBytes: availableMemory,
        fitting: expect.arrayContaining(["microBatchTokens 128"]),
      },
    });
    expect(await readdir(folder)).toEqual([]);
    const result = await train({ ...tight, options: { ...tight.options, availableMemory: "unlimited", epochs: 1 } });
    expect(result.reason).toBe("finished");
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("where only shorter samples would fit, their length is named", async () => {
  const samples = tinySamples(8);
  const long = { ids: samples.flatMap((s) => s.ids), labels: samples.flatMap((s) => s.labels) };
  const mixed = { ...run, data: { ...run.data, samples: [...samples, long], wholeBatch: true } };
  const lean = { ...options, recompute: "blocks" } as const;
  const limit = (await estimateRun(mixed, options, lean, long.ids.length - 1)).totalBytes;
  await expect(checkMemory(mixed, lean, limit)).rejects.toMatchObject({
    details: { fitting: expect.arrayContaining([expect.stringMatching(/^samples of at most \d+ tokens$/)]) },
  });
});

test("nothing fits into nothing", async () => {
  await expect(checkMemory(run, options, 1000)).rejects.toMatchObject({
    code: "MEMORY_EXCEEDED",
    hint: expect.stringMatching(/No setting that was tried would fit/),
    details: { fitting: [] },
  });
});
