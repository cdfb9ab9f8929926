import type { TrainEvent } from "@onnx-peft/core";
import { Presets, SingleBar } from "cli-progress";

/** A progress bar for a training run: step, loss, rate, time left and memory. Silent where output is not a terminal. */
export function trainingBar(name: string): { onEvent(event: TrainEvent): void; stop(): void } {
  const bar = new SingleBar(
    {
      format: `  ${name} {bar} {value}/{total} loss {loss} {rate} tokens/s {left} left, {memory} MB{evaluation}`,
      hideCursor: true,
      noTTYOutput: false,
    },
    Presets.shades_classic,
  );
  let started = false;
  let evaluation = "";
  return {
    onEvent(event) {
      if (event.type === "evaluation") {
        const [metric, value] = Object.entries(event.metrics)[0] ?? [];
        if (metric !== undefined && value !== undefined) evaluation = `, ${metric} ${value.toFixed(3)}`;
        return;
      }
      if (event.type !== "progress") return;
      const payload = {
        loss: event.loss.toFixed(3),
        rate: Math.round(event.tokensPerSecond),
        left: `${Math.ceil(event.remainingMs / 1000)} s`,
        memory: event.residentBytes === null ? "?" : Math.round(event.residentBytes / 2 ** 20),
        evaluation,
      };
      if (!started) bar.start(event.totalSteps, event.step, payload);
      started = true;
      bar.update(event.step, payload);
    },
    stop() {
      if (started) bar.stop();
    },
  };
}
