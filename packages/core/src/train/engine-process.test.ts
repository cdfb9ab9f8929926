import { fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { createEngine } from "./engine.ts";
import { withFiles } from "./engine-files.ts";
import { createEngineProcess } from "./engine-process.ts";
import { compileScript } from "./testing/compile.ts";
import { heavyRun } from "./testing/heavy-task.ts";
import { collateTiny, tinyEvaluation, tinyParameters, tinyProgram, tinyRun, tinySamples } from "./testing/tiny-task.ts";
import { train } from "./trainer.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "engine-process-test-"));
  // Exchange folders of this file's engines, apart from those of others.
  vi.stubEnv("TMPDIR", root);
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(root, { recursive: true, force: true });
});

const setup = () => ({
  training: tinyProgram(0.1),
  evaluation: tinyEvaluation(),
  parameters: tinyParameters(),
  optimizer: { type: "adamw" as const, learningRate: 0.01 },
  seed: 1,
  threads: 1,
});
const runs = [collateTiny(tinySamples(4)), collateTiny(tinySamples(3, 2))];

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Child processes that this process still holds a handle of. */
const childHandles = (): string[] => process.getActiveResourcesInfo().filter((name) => name === "ProcessWrap");

/** Kills the only child of this process that trains, as the system does when memory runs out. */
function killEngine(): void {
  const pids = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, "utf8").trim().split(" ").map(Number);
  const engines = pids.filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("engine-child"));
  expect(engines).toHaveLength(1);
  process.kill(engines[0]!, "SIGKILL");
}

async function until(condition: () => boolean): Promise<void> {
  await vi.waitFor(() => expect(condition()).toBe(true), { timeout: 20_000, interval: 5 });
}

const exchangeFolders = (): string[] => readdirSync(root).filter((name) => name.startsWith("onnx-peft-"));

afterEach(() => {
  expect(exchangeFolders()).toEqual([]);
  expect(childHandles()).toEqual([]);
});

describe("engine process", () => {
  test("computes what the engine in this thread computes, to the bit", async () => {
    const there = await createEngineProcess(setup());
    const here = withFiles(await createEngine(onnxruntimeNode, setup()));
    const run = async (engine: typeof here) => {
      const losses: number[] = [];
      for (let step = 0; step < 4; step++) {
        losses.push((await engine.step({ step, runs, learningRateScale: 1, maxGradNorm: 0.5 })).loss);
        if (step === 1) await engine.keepBest();
      }
      const { sum } = await engine.evaluate(runs[0]!);
      return { losses, sum, parameters: await engine.bestParameters() };
    };
    expect(await run(there)).toEqual(await run(here));
    await here.close();
    await there.close();
    await there.close();
    expect(isAlive(there.pid)).toBe(false);
    await expect(there.evaluate(runs[0]!)).rejects.toMatchObject({ code: "ENGINE" });
  });

  test("calls at the same time do not overlap", async () => {
    const engine = await createEngineProcess(setup());
    const step = (n: number) => engine.step({ step: n, runs, learningRateScale: 1 });
    const results = await Promise.all([step(0), engine.evaluate(runs[0]!), step(1), engine.close()]);
    const other = withFiles(await createEngine(onnxruntimeNode, setup()));
    const first = await other.step({ step: 0, runs, learningRateScale: 1 });
    const between = await other.evaluate(runs[0]!);
    const second = await other.step({ step: 1, runs, learningRateScale: 1 });
    await other.close();
    expect([results[0].loss, results[1], results[2].loss]).toEqual([first.loss, between, second.loss]);
  });

  test("errors keep their code, and the engine goes on", async () => {
    const engine = await createEngineProcess(setup());
    const { ids, mask } = runs[0]!;
    await expect(engine.evaluate({ ids: ids!, mask: mask! })).rejects.toMatchObject({
      code: "FEED_NAMES",
      message: expect.stringContaining("labels"),
    });
    await expect(engine.evaluate(runs[0]!)).resolves.toHaveProperty("sum");
    await engine.close();
  });

  test("a graph that does not open leaves no process behind", async () => {
    const broken = { ...tinyProgram(), graph: { bytes: new Uint8Array([1, 2, 3]) } };
    await expect(createEngineProcess({ ...setup(), training: broken })).rejects.toMatchObject({ code: "RUNTIME_OPEN" });
  });

  test.each(["SIGKILL", "SIGABRT"] as const)(
    "%s during a step: ENGINE_CRASHED with its last words, this process lives",
    async (signal) => {
      // Makes the child write to its error stream.
      vi.stubEnv("NODE_DEBUG", "module");
      const engine = await createEngineProcess(setup());
      vi.stubEnv("NODE_DEBUG", "");
      const many = Array.from({ length: 5000 }, () => runs[0]!);
      const step = engine.step({ step: 0, runs: many, learningRateScale: 1 });
      const evaluation = engine.evaluate(runs[0]!);
      setTimeout(() => process.kill(engine.pid, signal), 100);
      const [first, second] = await Promise.allSettled([step, evaluation]);
      expect(first).toMatchObject({
        status: "rejected",
        reason: {
          code: "ENGINE_CRASHED",
          message: expect.stringMatching(new RegExp(`${signal}.*It said: .*MODULE ${engine.pid}`, "s")),
          details: { signal },
        },
      });
      expect(second).toMatchObject({ status: "rejected", reason: { code: "ENGINE_CRASHED" } });
      await expect(engine.step({ step: 0, runs, learningRateScale: 1 })).rejects.toMatchObject({
        code: "ENGINE_CRASHED",
      });
      expect(isAlive(engine.pid)).toBe(false);
      await engine.close();
    },
  );

  test("Ctrl-C is the caller's business", async () => {
    const engine = await createEngineProcess(setup());
    process.kill(engine.pid, "SIGINT");
    await expect(engine.step({ step: 0, runs, learningRateScale: 1 })).resolves.toHaveProperty("loss");
    await engine.close();
  });

  test("a process whose parent is killed during a step ends by itself", async () => {
    const script = await compileScript("orphan.ts");
    try {
      const parent = fork(script.path, [], { env: { ...process.env, TMPDIR: root } });
      const [pid] = (await once(parent, "message")) as [number];
      expect(isAlive(pid)).toBe(true);
      parent.kill("SIGKILL");
      await once(parent, "exit");
      await until(() => !isAlive(pid));
    } finally {
      await script.remove();
    }
  });
});

describe("train in a process", () => {
  test("cancel: between two steps, with a checkpoint, and the process is gone", async () => {
    const folder = join(root, "cancelled");
    const controller = new AbortController();
    const steps: number[] = [];
    const result = await train({
      ...tinyRun({ folder, options: { isolation: "process", epochs: 100 } as never }),
      signal: controller.signal,
      onEvent(event) {
        if (event.type !== "progress") return;
        steps.push(event.step);
        // While the third step runs.
        if (event.step === 2) setImmediate(() => controller.abort());
      },
    });
    expect(result.reason).toBe("cancelled");
    expect(result.steps).toBe(steps.at(-1));
    expect(steps).toEqual([1, 2, 3]);
    expect(existsSync(join(folder, "checkpoint", "parameters.safetensors"))).toBe(true);
  });

  test("a signal that was aborted before does no step", async () => {
    const result = await train({
      ...tinyRun({ options: { isolation: "process" } as never }),
      signal: AbortSignal.abort(),
    });
    expect(result).toMatchObject({ reason: "cancelled", steps: 0 });
    expect(result.parameters).toEqual(tinyParameters());
  });

  // Finding the process needs /proc.
  test.runIf(process.platform === "linux")(
    "a crash in the middle of a run is an error, and the run can be resumed",
    async () => {
      const folder = join(root, "crashed");
      const run = heavyRun({ folder });
      const options = { ...run.options, saveSteps: 1 };
      const crash = train({
        ...run,
        options,
        onEvent: (event) => event.type === "checkpoint" && event.step === 2 && killEngine(),
      });
      await expect(crash).rejects.toMatchObject({ code: "ENGINE_CRASHED" });
      const events: number[] = [];
      const result = await train({
        ...run,
        options,
        onEvent: (event) => event.type === "progress" && events.push(event.step),
      });
      expect(result.steps).toBe(4);
      expect(events).toEqual([3, 4]);
    },
  );
});
