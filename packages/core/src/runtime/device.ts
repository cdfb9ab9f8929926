import type { Runtime } from "./runtime.ts";

export const devices = ["cpu", "cuda", "webgpu"] as const;

/** Where graphs run. Nodes that a GPU has no kernel for run on the CPU, as small ones about shapes do. */
export type Device = (typeof devices)[number];

/** The runtime with everything it opens on a device. */
export function onDevice(runtime: Runtime, device: Device = "cpu"): Runtime {
  if (device === "cpu") return runtime;
  return {
    name: runtime.name,
    open: (model, options) => runtime.open(model, { ...options, providers: [device, "cpu"] }),
  };
}
