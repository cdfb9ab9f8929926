import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Device } from "@onnx-peft/core";
import type { ShapeName } from "../shapes.ts";

/** What a side says of its steps. */
export interface SideFigures {
  readonly medianMs: number;
  readonly minMs: number;
}

/** One of the things measured: it makes steps in a process of its own. */
export interface Side {
  readonly name: string;
  /** Run once only, beside the comparison. */
  readonly isSecondary?: boolean;
  run(shape: ShapeName, models: string, steps: number): Promise<SideFigures>;
}

export const WARM_UP = 10;
const PATIENCE_MS = 240_000;

const local = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const execute = promisify(execFile);

async function lastLine(command: string, args: string[], env: Record<string, string>): Promise<Record<string, number>> {
  const options = { env: { ...process.env, ...env }, timeout: PATIENCE_MS, killSignal: "SIGKILL" as const };
  const { stdout } = await execute(command, args, options);
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}");
}

/** This engine. TF32 is a matter of the environment: the binding does not pass on the provider's `use_tf32`. */
export const ours = (name: string, device: Device, tf32: boolean, ...options: string[]): Side => ({
  name,
  async run(shape, models, steps) {
    const line = await lastLine(
      process.execPath,
      [
        ...[local("bench/dist/step.js"), shape, "--device", device, "--micro", "1000000"],
        ...[
          "--model",
          `${models}/${shape}`,
          "--steps",
          String(steps + WARM_UP),
          "--warmup",
          String(WARM_UP),
          ...options,
        ],
      ],
      { NVIDIA_TF32_OVERRIDE: tf32 ? "1" : "0" },
    );
    return { medianMs: line["medianMs"] ?? Number.NaN, minMs: line["minMs"] ?? Number.NaN };
  },
});

export const torch = (name: string, python: string, device: Device, ...options: string[]): Side => ({
  name,
  async run(shape, _models, steps) {
    const line = await lastLine(
      python,
      [
        ...[local("bench/pytorch/step.py"), "--shape", shape, "--device", device === "cpu" ? "cpu" : "cuda"],
        ...["--steps", String(steps), "--warmup", String(WARM_UP), ...options],
      ],
      {},
    );
    return { medianMs: line["step_ms_median"] ?? Number.NaN, minMs: line["step_ms_min"] ?? Number.NaN };
  },
});
