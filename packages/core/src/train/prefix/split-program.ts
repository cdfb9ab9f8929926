import { PeftError } from "../../errors.ts";
import { leavesInReverse } from "../../graph/leaves-in-reverse.ts";
import { pruneDeadNodes } from "../../graph/prune.ts";
import { toModel } from "../../graph/to-model.ts";
import type { Graph, Node, Value } from "../../onnx/ir.ts";
import { packedCopies } from "../../quantization/packed-copies.ts";
import { packGraph } from "../graph-file.ts";
import type { EvaluationProgram, TrainingProgram } from "../program.ts";
import { shapedGraph } from "../shaped-graph.ts";
import { type Axes, axesOf, findCut, LEAST_SHARE } from "./find-cut.ts";
import { type FrozenNodes, frozenNodes } from "./frozen-nodes.ts";

/** A training program in two parts. */
export interface SplitProgram {
  /** From the inputs to the values at the cut. */
  readonly prefix: EvaluationProgram;
  /** From inputs and values at the cut to loss and gradients. */
  readonly suffix: TrainingProgram;
  /** What is stored of every sample: float32 [batch, ...]. */
  readonly cut: readonly Value[];
  readonly axes: Axes;
  /** Share of all products of a step, forward and backward, that lie in the prefix. */
  readonly workShare: number;
}

export interface SplitProgramOptions {
  /** "off": dropout of frozen layers below the cut is left out, as in evaluation. Default "on". */
  readonly prefixDropout?: "on" | "off";
}

/**
 * Cuts a training program below everything that training changes: what depends on no trained input, no state of the adapter
 * and no dropout mask is the prefix, the rest the suffix. Weights that are read below only are not in the suffix's graph. Losses
 * and gradients stay the same but for rounding, as far as the model's masks hide what is at padding.
 *
 * @throws PeftError NO_PREFIX when too little work lies below: adapters in the lowest layers, or active dropout there.
 * @example
 * const { prefix, suffix } = splitProgram(buildAdapterProgram(adapted, loss), { prefixDropout: "off" });
 */
export function splitProgram(
  program: TrainingProgram,
  { prefixDropout = "on" }: SplitProgramOptions = {},
): SplitProgram {
  const { graph, opset } = shapedGraph(program.graph);
  const changing = new Set([...program.parameters, ...program.state]);
  const axes = axesOf(program.inputs);
  const attempt = (ignoreDropout: boolean) => {
    const frozen = frozenNodes(graph, changing, ignoreDropout);
    const cut = axes ? findCut(graph, frozen, axes) : null;
    return cut && cut.workShare >= LEAST_SHARE ? { frozen, cut } : null;
  };
  const found = attempt(prefixDropout === "off");
  if (!found || !axes) {
    const isDropout = axes !== null && prefixDropout === "on" && attempt(true) !== null;
    throw new PeftError(
      "NO_PREFIX",
      isDropout
        ? "The frozen layers below the adapter have dropout, so that their activations differ from epoch to epoch."
        : `Less than ${100 * LEAST_SHARE} % of a step's work is the same in every epoch: nothing is worth keeping.`,
      {
        hint: isDropout
          ? 'Leave it out with prefixDropout "off", or do without prefixCache.'
          : "Adapt modules of upper layers only (targetModules), or do without prefixCache.",
      },
    );
  }
  const { frozen, cut } = found;
  const suffix = suffixGraph(graph, cut.below, cut.values);
  const isStored = new Set(cut.values.map(({ name }) => name));
  const isKept = (name: string): boolean => changing.has(name) || name.startsWith("dropout.");
  const prefix = prefixGraph(graph, frozen, cut.values);
  return {
    prefix: {
      graph: packGraph(toModel(prefix, opset)),
      parameters: [],
      inputs: prefix.inputs,
      outputs: cut.values.map(({ name }) => name),
      packWeights: packedCopies(prefix) > 0,
    },
    suffix: {
      ...program,
      graph: packGraph(toModel(suffix, opset)),
      state: program.state.filter((name) => suffix.inputs.some((v) => v.name === name)),
      inputs: suffix.inputs.filter((v) => isStored.has(v.name) || !isKept(v.name)),
    },
    cut: cut.values,
    axes,
    workShare: cut.workShare,
  };
}

const shown = (names: readonly { readonly name: string }[]): Map<string, string> =>
  new Map(names.map(({ name }) => [name, name]));

/** The graph with the stored values as inputs. */
function suffixGraph(graph: Graph, below: ReadonlySet<string>, stored: readonly Value[]): Graph {
  const isStored = new Set(stored.map(({ name }) => name));
  const nodes = graph.nodes.flatMap((node): Node[] => {
    if (node.outputs.some((name) => below.has(name)) && node.outputs.every((name) => name === "" || below.has(name)))
      return [];
    return [{ ...node, outputs: node.outputs.map((name) => (isStored.has(name) ? `${name}:again` : name)) }];
  });
  const inputs = [...graph.inputs, ...stored];
  return leavesInReverse(pruneDeadNodes({ ...graph, nodes, inputs }, shown(graph.outputs), { dropUnusedInputs: true }));
}

/** The part that makes the stored values. */
function prefixGraph(graph: Graph, { nodes, undropped }: FrozenNodes, stored: readonly Value[]): Graph {
  const identities = nodes.map((node): Node => {
    const x = undropped.get(node.outputs[0] ?? "");
    return x === undefined ? node : { ...node, op: "Identity", inputs: [x], attributes: {} };
  });
  const outputs = stored.map((value) => ({ ...value }));
  return pruneDeadNodes({ ...graph, name: "prefix", nodes: identities, outputs }, shown(outputs), {
    dropUnusedInputs: true,
  });
}
