/** A process that starts an engine process, sets it to work on a long step, tells its pid, and waits to be killed. */
import { createEngineProcess } from "../engine-process.ts";
import { heavyRun } from "./heavy-task.ts";

const run = heavyRun({});
const engine = await createEngineProcess({
  training: run.training,
  parameters: run.parameters,
  optimizer: run.options.optimizer,
  seed: 1,
  threads: 1,
});
const feeds = run.data.collate([0], "0.0");
const step = engine.step({ step: 0, runs: [feeds, feeds, feeds, feeds], learningRateScale: 1 });
process.send?.(engine.pid);
await step;
