import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Device } from "@onnx-peft/core";
import { goldenCases } from "./golden-cases.ts";
import type { GoldenLine } from "./golden-child.ts";

/** A case that takes longer, opening the device included, is given up. */
const PATIENCE_MS = 90_000;

/**
 * All golden models on a device, in a process that is started again where one of them ends it.
 * @param onLine is called as results come.
 */
export async function runGolden(
  device: Device,
  only: readonly string[],
  onLine: (line: GoldenLine) => void,
): Promise<void> {
  let left = [...goldenCases.keys()].filter((name) => only.length === 0 || only.some((part) => name.includes(part)));
  while (left.length > 0) {
    const done = await runSome(device, left, onLine);
    left = left.slice(done);
    const [next, ...rest] = left;
    if (next === undefined) return;
    onLine({ name: next, error: `the process ended or took longer than ${PATIENCE_MS / 1000} s` });
    left = rest;
  }
}

/** Runs cases until one ends the process; returns how many were done. */
async function runSome(device: Device, names: readonly string[], onLine: (line: GoldenLine) => void): Promise<number> {
  const path = fileURLToPath(new URL("./golden-child.js", import.meta.url));
  const child = spawn(process.execPath, [path, device, ...names], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { NVIDIA_TF32_OVERRIDE: "0", ...process.env },
  });
  const giveUp = (): void => void child.kill("SIGKILL");
  let timer = setTimeout(giveUp, PATIENCE_MS);
  let done = 0;
  for await (const text of createInterface({ input: child.stdout })) {
    if (!text.startsWith("{")) continue;
    clearTimeout(timer);
    timer = setTimeout(giveUp, PATIENCE_MS);
    done++;
    onLine(JSON.parse(text) as GoldenLine);
  }
  clearTimeout(timer);
  return done;
}
