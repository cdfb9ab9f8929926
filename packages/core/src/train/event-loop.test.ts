import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { heavyRun } from "./testing/heavy-task.ts";
import { type TimerDelay, timerDelay } from "./testing/timer-delay.ts";
import { type TrainEvent, train } from "./trainer.ts";

const LIMIT_MS = 20;

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "onnx-peft-loop-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** A whole run: start, four steps, two checkpoints of 50 MB, the end. */
async function heavy(isolation: "process" | "inline"): Promise<TimerDelay> {
  const run = heavyRun({ folder: await mkdtemp(join(root, "run-")) });
  const at: number[] = [];
  const onEvent = ({ type }: TrainEvent): void => {
    if (type === "progress") at.push(performance.now());
  };
  const delay = await timerDelay(() =>
    train({ ...run, onEvent, options: { ...run.options, isolation, saveSteps: 2 } }),
  );
  // Steps long enough for a blocking implementation to be seen.
  expect(at).toHaveLength(4);
  expect(at[1]! - at[0]!).toBeGreaterThan(100);
  return delay;
}

test('isolation "process": a 1 ms timer of the caller is never 20 ms late', async () => {
  const measured: TimerDelay[] = [];
  // A measurement in which an idle thread's timer was as late says nothing about the trainer: repeat it. Of those that
  // do, one may fail.
  const conclusive = (): TimerDelay[] => measured.filter(({ caller, idle }) => caller <= LIMIT_MS || idle <= LIMIT_MS);
  const passed = (): boolean => measured.some(({ caller }) => caller <= LIMIT_MS);
  while (!passed() && conclusive().length < 2 && measured.length < 6) measured.push(await heavy("process"));
  expect(passed(), JSON.stringify(measured)).toBe(true);
}, 180_000);

test('isolation "inline" blocks: the measurement can fail', async () => {
  const { caller } = await heavy("inline");
  expect(caller).toBeGreaterThan(100);
});
