/** Where the nodes of a graph ran. */
export interface Placement {
  readonly deviceNodes: number;
  readonly cpuNodes: number;
  /** Copies between the two that the engine put in between nodes. */
  readonly copies: number;
  /** Operators of the nodes on the CPU with their counts, most frequent first. */
  readonly cpuOperators: Readonly<Record<string, number>>;
}

interface ProfileEvent {
  readonly cat?: string;
  readonly name?: string;
  readonly args?: { readonly op_name?: string; readonly provider?: string };
}

/**
 * Counts nodes by execution provider in a profile of ONNX Runtime. The option that refuses fallback to the CPU
 * (session.disable_cpu_ep_fallback) is no help: it also refuses nodes about shapes, which belong there.
 */
export function placementIn(profile: string): Placement {
  const nodes = new Map<string, { readonly op: string; readonly provider: string }>();
  for (const { cat, name, args } of JSON.parse(profile) as readonly ProfileEvent[]) {
    if (cat !== "Node" || !name?.endsWith("_kernel_time") || args?.provider === undefined) continue;
    nodes.set(name, { op: args.op_name ?? "", provider: args.provider });
  }
  const all = [...nodes.values()];
  const computing = all.filter(({ op }) => !op.startsWith("Memcpy"));
  const onCpu = computing.filter(({ provider }) => provider === "CPUExecutionProvider");
  const counts = new Map<string, number>();
  for (const { op } of onCpu) counts.set(op, (counts.get(op) ?? 0) + 1);
  return {
    deviceNodes: computing.length - onCpu.length,
    cpuNodes: onCpu.length,
    copies: all.length - computing.length,
    cpuOperators: Object.fromEntries([...counts].sort(([, a], [, b]) => b - a)),
  };
}
