import type { Placement, Runtime } from "@onnx-peft/core";

/** A runtime, and where the nodes of the last graph ran that it opened and closed. */
export interface PlacedRuntime extends Runtime {
  readonly placement: Placement | undefined;
}

/** Watches where nodes run. */
export function placedRuntime(runtime: Runtime): PlacedRuntime {
  let placement: Placement | undefined;
  return {
    name: runtime.name,
    get placement() {
      return placement;
    },
    async open(model, options) {
      const session = await runtime.open(model, { ...options, recordPlacement: true });
      return {
        inputNames: session.inputNames,
        outputNames: session.outputNames,
        run: session.run,
        async close() {
          placement = session.placement;
          await session.close();
        },
      };
    },
  };
}

/** In a few words. */
export function placementText({ deviceNodes, cpuNodes, copies, cpuOperators }: Placement): string {
  const operators = Object.entries(cpuOperators).map(([op, count]) => `${count} ${op}`);
  const shown = [...operators.slice(0, 8), ...(operators.length > 8 ? ["..."] : [])].join(", ");
  return `${deviceNodes} nodes on the device, ${cpuNodes} on the CPU${shown === "" ? "" : ` (${shown})`}, ${copies} copies`;
}
