import { Worker } from "node:worker_threads";

/** How late a 1 ms timer was at most, in milliseconds. */
export interface TimerDelay {
  /** In the calling thread, which `work` may have blocked. */
  readonly caller: number;
  /** In a thread that did nothing else: what the machine alone did to a timer in that time. */
  readonly idle: number;
}

const idleThread = `
const { parentPort } = require("node:worker_threads");
let largest = 0, last = performance.now();
const timer = setInterval(() => {
  const now = performance.now();
  largest = Math.max(largest, now - last - 1);
  last = now;
}, 1);
parentPort.once("message", () => { clearInterval(timer); parentPort.postMessage(largest); });
parentPort.postMessage("started");
`;

const answer = (worker: Worker): Promise<unknown> => new Promise((resolve) => worker.once("message", resolve));

/** Runs a 1 ms timer in this thread and in an idle one while `work` goes on. */
export async function timerDelay(work: () => Promise<unknown>): Promise<TimerDelay> {
  const worker = new Worker(idleThread, { eval: true });
  await answer(worker);
  let caller = 0;
  let last = performance.now();
  const tick = (): void => {
    const now = performance.now();
    caller = Math.max(caller, now - last - 1);
    last = now;
  };
  const timer = setInterval(tick, 1);
  try {
    await work();
  } finally {
    clearInterval(timer);
    tick();
    worker.postMessage("stop");
  }
  const idle = Number(await answer(worker));
  await worker.terminate();
  return { caller, idle };
}
