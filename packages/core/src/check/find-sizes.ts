import { PeftError } from "../errors.ts";
import { isFloating } from "../onnx/element-type.ts";
import type { Graph, Value } from "../onnx/ir.ts";
import type { Feeds, Outputs, RuntimeSession, RuntimeTensor } from "../runtime/runtime.ts";
import {
  hasFeatures,
  hasFreeBatch,
  hasFreeLength,
  type InputSizes,
  sizeCandidates,
  sizesInShapes,
} from "./input-sizes.ts";
import { syntheticInputs } from "./synthetic-inputs.ts";
import { floatsOf, relativeDistance } from "./vectors.ts";

/** Sizes at which a file runs, with the inputs and outputs of that run. */
export interface WorkingRun {
  readonly sizes: InputSizes;
  readonly feeds: Readonly<Record<string, RuntimeTensor>>;
  readonly outputs: Outputs;
}

/** A size that is declared free and is not, or is not what it seems. */
export interface BakedSize {
  readonly axis: "batch" | "length";
  readonly reason: string;
  /** The node that refused another size, when one did. */
  readonly node: string | null;
}

/** What is run: the graph says what its inputs mean, and some of them are fixed. */
export interface RunSubject {
  readonly session: RuntimeSession;
  readonly graph: Graph;
  /** Inputs that choose a branch. */
  readonly fixed: Feeds;
}

async function attempt({ session, graph, fixed }: RunSubject, sizes: InputSizes): Promise<WorkingRun> {
  const feeds = { ...syntheticInputs(graph, sizes, 1), ...fixed };
  return { sizes, feeds, outputs: await session.run(feedsFor(session, feeds)) };
}

/** Those of the feeds that a graph takes: a form of it without a cache, or with a branch chosen, has fewer inputs. */
export const feedsFor = ({ inputNames }: RuntimeSession, feeds: Feeds): Feeds =>
  Object.fromEntries(Object.entries(feeds).filter(([name]) => inputNames.includes(name)));

/**
 * Runs a file at one size after the other until it accepts one.
 * @throws PeftError what the runtime said of the first attempt, when no size works
 */
export async function findWorkingRun(subject: RunSubject): Promise<WorkingRun> {
  let first: unknown;
  const { graph } = subject;
  const batches = hasFreeBatch(graph) ? [...new Set([2, 1, ...sizesInShapes(graph).batches])] : [2];
  for (const batch of batches) {
    for (const sizes of sizeCandidates(graph, batch)) {
      try {
        return await attempt(subject, sizes);
      } catch (error) {
        if (!PeftError.isInstance(error) || error.code !== "RUNTIME_RUN") throw error;
        first ??= error;
      }
    }
  }
  throw first;
}

/** Name of the node in a message of ONNX Runtime ("... running Reshape node. Name:'/a/Reshape' Status ..."). */
const nodeIn = (message: string): string | null => /Name:'([^']*)'/.exec(message)?.[1] ?? null;

/**
 * Finds sizes that an exporter wrote into the graph: the file is run with one row more and with a longer input, and each row
 * alone must give what it gives in the batch.
 * @param isRounded the file computes in less than float32.
 */
export async function findBakedSizes(subject: RunSubject, run: WorkingRun, isRounded: boolean): Promise<BakedSize[]> {
  const { session, graph } = subject;
  const { batch, length } = run.sizes;
  const found: BakedSize[] = [];
  const probe = async (axis: BakedSize["axis"], sizes: InputSizes): Promise<WorkingRun | null> => {
    try {
      return await attempt(subject, sizes);
    } catch (error) {
      if (!PeftError.isInstance(error) || error.code !== "RUNTIME_RUN") throw error;
      const node = nodeIn(error.message);
      const at = node === null ? "" : `, node "${node}" refuses ${sizes[axis]}`;
      found.push({ axis, reason: `the ${axis} is written into the graph: it runs with ${run.sizes[axis]}${at}`, node });
      return null;
    }
  };
  if (hasFreeBatch(graph)) {
    const larger = await probe("batch", { ...run.sizes, batch: batch + 1 });
    if (larger) {
      const coupled = await coupledOutput(session, graph, larger, rowTolerance(isRounded));
      if (coupled !== null) {
        found.push({
          axis: "batch",
          reason: `rows of a batch change each other in "${coupled}": it is not the same alone and in a batch`,
          node: null,
        });
      }
    }
  }
  // Images and waveforms are resized to what the model wants; texts and other sequences have the length they have.
  const isText = graph.inputs.some(({ name, type }) => type === "int64" && /ids/i.test(name));
  if (hasFreeLength(graph) && (isText || hasFeatures(graph)))
    await probe("length", { ...run.sizes, length: length + 3 });
  return found;
}

const isPerRow = ({ type, shape }: Value): boolean => isFloating(type) && typeof shape[0] === "string";

/** What files with rounded arithmetic may differ by: ranges of dynamic int8 are those of the whole batch. */
const rowTolerance = (isRounded: boolean): number => (isRounded ? 0.2 : 1e-2);

/** An output that has one entry per row of the batch and no other axis of that size, and is not computed row by row. */
async function coupledOutput(
  session: RuntimeSession,
  graph: Graph,
  { sizes, feeds, outputs }: WorkingRun,
  tolerance: number,
): Promise<string | null> {
  const alone = Object.fromEntries(
    graph.inputs.flatMap(({ name, shape }) => {
      const tensor = session.inputNames.includes(name) ? feeds[name] : undefined;
      if (!tensor) return [];
      return [[name, typeof shape[0] === "string" ? firstRow(tensor) : tensor]];
    }),
  );
  let single: Outputs;
  try {
    single = await session.run(alone);
  } catch (error) {
    if (!PeftError.isInstance(error)) throw error;
    return null; // one row alone is refused: said already by the larger batch where it matters
  }
  for (const output of graph.outputs) {
    const [all, one] = [outputs[output.name], single[output.name]];
    if (!all || !one || !isPerRow(output) || all.dims[0] !== sizes.batch || one.dims[0] !== 1) continue;
    if (all.dims.slice(1).some((d, i) => d !== one.dims[i + 1])) continue; // a table of rows by rows
    const expected = floatsOf(one);
    const distance = relativeDistance(floatsOf(all).subarray(0, expected.length), expected);
    if (distance > tolerance) return output.name;
  }
  return null;
}

function firstRow(tensor: RuntimeTensor): RuntimeTensor {
  const [rows = 1, ...rest] = tensor.dims;
  return { ...tensor, dims: [1, ...rest], data: tensor.data.subarray(0, tensor.data.length / rows) };
}
