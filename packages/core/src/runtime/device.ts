import type { Runtime } from "./runtime.ts";

export const devices = ["cpu", "cuda", "webgpu"] as const;

/** Where graphs run. Nodes that a GPU has no kernel for run on the CPU, as small ones about shapes do. */
export type Device = (typeof devices)[number];

/** The runtime with everything it opens on a device. Graphs for "webgpu" are rewritten in the operators it has. */
export function onDevice(runtime: Runtime, device: Device = "cpu"): Runtime {
  if (device === "cpu") return runtime;
  const providers = [device, "cpu"];
  return {
    name: runtime.name,
    async open(model, options = {}) {
      if (device !== "webgpu") return runtime.open(model, { ...options, providers });
      // Imported when it is needed: on other devices the process that trains does without the modules that build graphs.
      const { webgpuGraph } = await import("./webgpu-graph.ts");
      const { externalDataFolder, ...others } = options;
      const graph = await webgpuGraph({ model, ...(externalDataFolder === undefined ? {} : { externalDataFolder }) });
      const place = graph.externalDataFolder === undefined ? {} : { externalDataFolder: graph.externalDataFolder };
      return runtime.open(graph.model, { ...others, providers, ...place });
    },
  };
}
