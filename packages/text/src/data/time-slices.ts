import { setImmediate } from "node:timers/promises";

/** Work between two turns of the event loop; one item may run over it. */
const SLICE_MS = 4;

/**
 * Calls `work` for 0 .. count-1 in slices of some milliseconds, so that timers and sockets of the process are served between
 * them.
 *
 * @throws the signal's reason when it is aborted.
 */
export async function inTimeSlices(count: number, work: (index: number) => void, signal?: AbortSignal): Promise<void> {
  let sliceEnd = performance.now() + SLICE_MS;
  for (let i = 0; i < count; i++) {
    if (performance.now() >= sliceEnd) {
      await setImmediate();
      sliceEnd = performance.now() + SLICE_MS;
    }
    signal?.throwIfAborted();
    work(i);
  }
}
