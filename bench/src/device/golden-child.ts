/** Runs golden models on a device and on the CPU, one JSON line each: node golden-child.js <device> <case> ... */
import { type Device, onDevice, onnxruntimeNode, type Placement } from "@onnx-peft/core";
import { type GoldenDistance, goldenCases } from "./golden-cases.ts";
import { placedRuntime } from "./placed-runtime.ts";

/** A line of the child. */
export interface GoldenLine {
  readonly name: string;
  readonly cpu?: GoldenDistance;
  readonly device?: GoldenDistance;
  readonly placement?: Placement | undefined;
  readonly error?: string;
}

const [device = "cpu", ...names] = process.argv.slice(2);
for (const name of names) {
  const run = goldenCases.get(name);
  let line: GoldenLine = { name };
  try {
    if (!run) throw new Error("no such case");
    line = { ...line, cpu: await run(onnxruntimeNode) };
    const placed = placedRuntime(onDevice(onnxruntimeNode, device as Device));
    line = { ...line, device: await run(placed), placement: placed.placement };
  } catch (error) {
    line = { ...line, error: error instanceof Error ? error.message : String(error) };
  }
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
