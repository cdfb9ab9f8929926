import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { watch } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isTemporaryName } from "../checkpoint/atomic-write.ts";
import { createRandom } from "../random/random.ts";
import { compileScript } from "./testing/compile.ts";
import { type KillableMessage, type KillableResult, killableRun, resultOf } from "./testing/killable-run.ts";
import { tinyData, tinyParameters, tinyProgram } from "./testing/tiny-task.ts";
import { type TrainEvent, type TrainingRun, train } from "./trainer.ts";

const checkpointFiles = ["best.safetensors", "optimizer.safetensors", "parameters.safetensors", "trainer_state.json"];

let script: Awaited<ReturnType<typeof compileScript>>;
let root: string;
let expected: { files: Record<string, string>; result: KillableResult };

beforeAll(async () => {
  script = await compileScript("killable-run.ts");
  root = await mkdtemp(join(tmpdir(), "onnx-peft-resume-"));
  const whole = join(root, "whole");
  const result = resultOf(await train(killableRun(whole, "process")));
  expected = { files: await filesOf(whole), result };
});

afterAll(async () => {
  await script.remove();
  await rm(root, { recursive: true, force: true });
});

const start = (folder: string): ChildProcess =>
  fork(script.path, [folder, "killable-run"], {
    serialization: "advanced",
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });

/** Every file of a run's folder, as hexadecimal text. */
async function filesOf(folder: string): Promise<Record<string, string>> {
  const names = [
    ...(await readdir(join(folder, "checkpoint"))).map((name) => join("checkpoint", name)),
    "metrics.jsonl",
  ];
  const read = names.map(async (name) => [name, (await readFile(join(folder, name))).toString("hex")] as const);
  return Object.fromEntries(await Promise.all(read));
}

/** Starts the run; `kill` decides at each event. Resolves to the result, or null when it was killed. */
async function live(folder: string, shouldKill: (event: TrainEvent) => boolean): Promise<KillableResult | null> {
  const child = start(folder);
  let result: KillableResult | null = null;
  child.on("message", (message: KillableMessage) => {
    if (message.type === "result") result = message.result;
    else if (shouldKill(message.event)) child.kill("SIGKILL");
  });
  const [code, signal] = await once(child, "exit");
  if (signal !== "SIGKILL" && code !== 0) throw new Error(`the run ended with ${code ?? signal}`);
  return result;
}

describe("resume", () => {
  test("the uninterrupted run uses what a checkpoint must hold", () => {
    const { result, files } = expected;
    expect(result.reason).toBe("early-stopping");
    expect(result.steps).toBeGreaterThan(15);
    expect(result.best!.step).toBeLessThan(result.steps);
    expect(Object.keys(files)).toEqual([...checkpointFiles.map((name) => join("checkpoint", name)), "metrics.jsonl"]);
  });

  test("killed by SIGKILL at random steps and resumed: equal to the bit", async () => {
    const folder = join(root, "killed");
    const random = createRandom(11);
    const resumedAt: number[] = [];
    let result: KillableResult | null = null;
    for (let life = 0; life < 20 && !result; life++) {
      // Six kills, then it may finish.
      let events = life < 6 ? 1 + random.integer(8) : Number.POSITIVE_INFINITY;
      let first = true;
      result = await live(folder, (event) => {
        if (first) resumedAt.push(event.step);
        first = false;
        return --events <= 0;
      });
    }
    expect(new Set(resumedAt).size).toBeGreaterThan(2);
    expect(result).toEqual(expected.result);
    expect(await filesOf(folder)).toEqual(expected.files);
  });

  test("killed while it writes a checkpoint: equal to the bit, nothing left over", async () => {
    const folder = join(root, "killed-in-checkpoint");
    let halfWritten = 0;
    for (let kills = 0; kills < 4; kills++) {
      let steps = 0;
      const nowWriting = { kill: () => {} };
      await mkdir(folder, { recursive: true });
      const watcher = watch(folder, (_, name) => {
        if (name?.startsWith(".checkpoint.") && steps > 3) nowWriting.kill();
      });
      const child = start(folder);
      nowWriting.kill = () => child.kill("SIGKILL");
      child.on("message", () => steps++);
      await once(child, "exit");
      watcher.close();
      if ((await readdir(folder)).some(isTemporaryName)) halfWritten++;
    }
    expect(halfWritten).toBeGreaterThan(0);
    expect(await live(folder, () => false)).toEqual(expected.result);
    expect(await filesOf(folder)).toEqual(expected.files);
    expect((await readdir(folder)).sort()).toEqual(["checkpoint", "metrics.jsonl"]);
  });

  test("cancelled by an AbortSignal and resumed: equal to the bit", async () => {
    const folder = join(root, "cancelled");
    for (const stopAt of [1, 6, 11]) {
      const controller = new AbortController();
      const events: string[] = [];
      const result = await train({
        ...killableRun(folder, "inline"),
        signal: controller.signal,
        onEvent(event) {
          events.push(`${event.step} ${event.type}`);
          if (event.type === "progress" && event.step === stopAt) controller.abort();
        },
      });
      expect(result).toMatchObject({ reason: "cancelled", steps: stopAt });
      expect(result.losses).toEqual(expected.result.losses.slice(0, stopAt));
      expect(events.at(-1)).toBe(`${stopAt} checkpoint`);
    }
    expect(resultOf(await train(killableRun(folder, "inline")))).toEqual(expected.result);
    expect(await filesOf(folder)).toEqual(expected.files);
  });

  test("a run that is over gives the same result again, without a step", async () => {
    const folder = join(root, "over");
    await train(killableRun(folder, "inline"));
    const events: TrainEvent[] = [];
    const again = await train({ ...killableRun(folder, "inline"), onEvent: (event) => events.push(event) });
    expect(resultOf(again)).toEqual(expected.result);
    expect(events).toEqual([]);
    expect(await filesOf(folder)).toEqual(expected.files);
  });
});

describe("a folder that cannot be continued", () => {
  const other = (folder: string, options: object): TrainingRun<never> => {
    const run = killableRun(folder, "inline");
    return { ...run, options: { ...run.options, ...options } } as never;
  };

  test.each<[string, (run: TrainingRun<never>) => object]>([
    [
      "options.optimizer.learningRate",
      ({ options }) => ({ options: { ...options, optimizer: { ...options.optimizer, learningRate: 1 } } }),
    ],
    ["options.seed", ({ options }) => ({ options: { ...options, seed: 7 } })],
    ["samples", () => ({ data: tinyData(31) })],
    [
      "parameters.classifier.bias",
      () => ({
        parameters: {
          ...tinyParameters(),
          "classifier.bias": { type: "float32", dims: [1, 3], data: new Float32Array(3) },
        },
      }),
    ],
    ["groups", () => ({ groups: [{ names: ["classifier.bias"], learningRate: 1, weightDecay: 0 }] })],
    ["dropout", () => ({ training: tinyProgram(0.3) })],
    ["graph", ({ training }) => ({ training: { ...tinyProgram(0), dropout: training.dropout } })],
  ])("RESUME_MISMATCH names %s", async (path, change) => {
    const folder = join(root, "mismatch");
    const run = other(folder, {});
    await train(run);
    await expect(train({ ...run, ...change(run) })).rejects.toMatchObject({
      code: "RESUME_MISMATCH",
      details: { differences: [path] },
    });
  });

  test("threads and isolation may change", async () => {
    const folder = join(root, "mismatch");
    await train(other(folder, {}));
    await expect(train(other(folder, { threads: 2, isolation: "process" }))).resolves.toMatchObject({
      reason: "early-stopping",
    });
  });

  test("a damaged state and a log that misses steps are errors", async () => {
    const folder = join(root, "damaged");
    await train(other(folder, {}));
    const log = join(folder, "metrics.jsonl");
    const text = await readFile(log, "utf8");
    await writeFile(log, text.split("\n").slice(1).join("\n"));
    await expect(train(other(folder, {}))).rejects.toMatchObject({ code: "METRICS_LOG_INVALID" });
    await writeFile(log, text);
    await writeFile(join(folder, "checkpoint", "trainer_state.json"), '{"format":');
    await expect(train(other(folder, {}))).rejects.toMatchObject({ code: "CHECKPOINT_INVALID" });
    await writeFile(join(folder, "checkpoint", "trainer_state.json"), '{"format":1}');
    await expect(train(other(folder, {}))).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });
});
