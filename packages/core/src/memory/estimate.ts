import { byteLength } from "../onnx/element-type.ts";
import type { Graph } from "../onnx/ir.ts";
import { elementCount } from "../onnx/tensor.ts";
import { packedCopies } from "../quantization/packed-copies.ts";
import { createArena } from "./arena.ts";
import { type RunMemory, runMemory } from "./run-memory.ts";

/**
 * Resident memory of the training process before it has opened a graph: Node 20, this library, the pages of onnxruntime-node
 * 1.30 that its kernels touch. Set together with the two constants below so that the ten shapes of `npm run bench:memory` on Linux
 * x64 come out within 13 %: a fit, not a measurement of its own.
 */
export const RUNTIME_BYTES = 105_000_000;

/** What a node costs in a session: its protobuf, node, kernel and shapes. One measurement: 11.5 MB for 867 nodes. */
const NODE_BYTES = 13_000;

/**
 * What the arena takes over its simulation: temporary memory of kernels (packed panels of matrix products, transposed copies) and
 * what it does to the gaps. Three training steps without recomputation gave 1.04 to 1.07.
 */
const KERNEL_SHARE = 1.07;

/** Trained values exist as value, sum of gradients, two moments, the gradient that a run returned, and the file they came in. */
const COPIES_OF_PARAMETERS = 6;

/** A batch crosses to the training process as a message and is unpacked there: both exist while it is read. */
const COPIES_OF_FEEDS = 2;

/** Estimated memory of the process that trains, in bytes. */
export interface MemoryEstimate {
  /** What the engine's arena holds for the intermediates of forward and backward, gaps included. */
  readonly activationBytes: number;
  /**
   * All weights once: as pages of the mapped file, or in the process where the graph embeds them (then twice); and the packed copies
   * of those of a few bits, one in each session.
   */
  readonly weightBytes: number;
  /** Adapter tensors, their gradients and AdamW's two moments, and copies on their way. */
  readonly adapterBytes: number;
  /** Batches and dropout masks. */
  readonly feedBytes: number;
  /** Nodes of the sessions. */
  readonly graphBytes: number;
  readonly runtimeBytes: number;
  readonly totalBytes: number;
  /** Trained values. */
  readonly trainedParameters: number;
  /** Node at which memory is highest. */
  readonly peakNode: string;
}

export interface EstimateInput {
  /** The training graph as it will be opened, with shapes in `values`. */
  readonly graph: Graph;
  /** Sizes of its symbols in the largest run. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Number of trained values. */
  readonly trainedParameters: number;
  /** Of the pools that masks of dropout are views into. */
  readonly dropoutBytes: number;
  /** A forward graph that is open beside it. */
  readonly evaluation?: Graph;
}

/**
 * Memory that training takes at its peak, from what is known of the engine: its order of nodes, its plan of buffers and its
 * allocator are followed step by step (see `runMemory`); weights are mapped from their file once for all sessions.
 */
export function estimateMemory({
  graph,
  sizes,
  trainedParameters,
  dropoutBytes,
  evaluation,
}: EstimateInput): MemoryEstimate {
  const arena = createArena();
  const run = runMemory(graph, sizes, arena);
  // The second run finds the arena as the first one left it.
  const again = runMemory(graph, sizes, arena);
  const forward: RunMemory | null = evaluation ? runMemory(evaluation, sizes) : null;
  const activationBytes = Math.round((again.arenaBytes + (forward?.arenaBytes ?? 0)) * KERNEL_SHARE);
  const weightBytes = weightsOf([graph, ...(evaluation ? [evaluation] : [])]);
  const adapterBytes = COPIES_OF_PARAMETERS * 4 * trainedParameters;
  const feedBytes = dropoutBytes + COPIES_OF_FEEDS * Math.max(0, run.feedBytes - 4 * trainedParameters);
  const graphBytes = NODE_BYTES * (graph.nodes.length + (evaluation?.nodes.length ?? 0));
  return {
    activationBytes,
    weightBytes,
    adapterBytes,
    feedBytes,
    graphBytes,
    runtimeBytes: RUNTIME_BYTES,
    totalBytes: activationBytes + weightBytes + adapterBytes + feedBytes + graphBytes + RUNTIME_BYTES,
    trainedParameters,
    peakNode: run.peakNode,
  };
}

/** Weights in files are shared by sessions; those inside a graph exist in its bytes and in its session. */
function weightsOf(graphs: readonly Graph[]): number {
  const mapped = new Map<string, number>();
  let embedded = 0;
  for (const graph of graphs) {
    for (const tensor of graph.initializers.values()) {
      const bytes = byteLength(tensor.type, elementCount(tensor.dims));
      if (tensor.data instanceof Uint8Array) embedded += 2 * bytes;
      else mapped.set(`${tensor.data.path}:${tensor.data.offset}`, bytes);
    }
  }
  const packed = graphs.reduce((sum, graph) => sum + packedCopies(graph), 0);
  return embedded + packed + [...mapped.values()].reduce((sum, bytes) => sum + bytes, 0);
}
