import { isFloating } from "../onnx/element-type.ts";
import type { Model, Node, Value } from "../onnx/ir.ts";
import { readNames } from "../onnx/structure.ts";
import { bindInputs, branchOf, isChoice, isIf, truthOf } from "./bind-inputs.ts";

/** An input that decides which branch of a model runs, and the value that training sets it to. */
export interface BranchChoice {
  readonly input: string;
  readonly value: boolean;
  /** Why this branch. */
  readonly reason: string;
}

/** Keys, values or states of earlier tokens. */
const isCache = ({ name, type, shape }: Value): boolean =>
  isFloating(type) && shape.length >= 3 && (/past|cache/i.test(name) || shape.some((d) => /past/i.test(String(d))));

/** An If, and what it is told when the value that its condition comes from is true. */
interface Decided {
  readonly node: Node;
  readonly whenTrue: boolean;
}

/** The If nodes of a graph by the value that their conditions come from, through Not and the like. One pass over the nodes. */
function decidedNodes({ graph }: Model): Map<string, Decided[]> {
  const origins = new Map<string, { readonly source: string; readonly whenTrue: boolean }>();
  const decided = new Map<string, Decided[]>();
  for (const node of graph.nodes) {
    const [input = "", output = ""] = [node.inputs[0], node.outputs[0]];
    const { source, whenTrue } = origins.get(input) ?? { source: input, whenTrue: true };
    const truth = truthOf(node, new Map([[input, whenTrue]]));
    if (truth !== undefined) origins.set(output, { source, whenTrue: truth });
    if (!isIf(node)) continue;
    const list = decided.get(source);
    if (list) list.push({ node, whenTrue });
    else decided.set(source, [{ node, whenTrue }]);
  }
  return decided;
}

/** What an input that decides branches is set to, and why; `value` is null where nothing says which branch is the one to train. */
interface Decision {
  readonly input: string;
  readonly value: boolean | null;
  readonly reason: string;
}

/** Inputs that decide branches, with what to set them to. */
function decisionsOf(model: Model): Decision[] {
  const nodes = decidedNodes(model);
  const { inputs, initializers } = model.graph;
  const caches = inputs.filter(isCache);
  return inputs.flatMap((input) => {
    const decided = isChoice(input) && !initializers.has(input.name) ? nodes.get(input.name) : undefined;
    return decided ? [decisionOf(input, decided, caches)] : [];
  });
}

function decisionOf(input: Value, decided: readonly Decided[], caches: readonly Value[]): Decision {
  const cachesRead = (value: boolean): number => {
    const read = new Set<string>();
    for (const { node, whenTrue } of decided) {
      const branch = { ...node, inputs: [], attributes: { taken: graphAttribute(node, whenTrue === value) } };
      for (const name of readNames(branch)) read.add(name);
    }
    return caches.filter(({ name }) => read.has(name)).length;
  };
  const [whenTrue, whenFalse] = [cachesRead(true), cachesRead(false)];
  const { name } = input;
  if (whenTrue === whenFalse) {
    return {
      input: name,
      value: null,
      reason: `both branches that ${name} chooses read ${whenTrue} inputs of earlier tokens`,
    };
  }
  const value = whenTrue < whenFalse;
  const [fewer, more] = [Math.min(whenTrue, whenFalse), Math.max(whenTrue, whenFalse)];
  return { input: name, value, reason: `it reads ${fewer} inputs of earlier tokens, the other branch ${more}` };
}

/**
 * The input of a model with two decoders in one file ("use_cache_branch" of decoder_model_merged.onnx) and the value under which
 * it reads no cache: training sees whole sequences. What counts is which branch reads inputs of earlier tokens, not what they are called. Null when no
 * input decides an If, or nothing says which branch is the one without a cache.
 */
export function branchChoice(model: Model): BranchChoice | null {
  const decision = decisionsOf(model).find(isDecided);
  return decision ?? null;
}

const isDecided = (decision: Decision): decision is BranchChoice => decision.value !== null;

/** Inputs that decide branches and that nothing chooses a value for, with the reason. */
export const undecidedBranches = (model: Model): { readonly input: string; readonly reason: string }[] =>
  decisionsOf(model).filter((decision) => !isDecided(decision));

const graphAttribute = (node: Node, condition: boolean) =>
  ({ type: "graph", value: branchOf(node, condition) }) as const;

interface Chosen {
  readonly model: Model;
  readonly choices: readonly BranchChoice[];
}

const chosen = new WeakMap<Model, Chosen>();

function choose(model: Model): Chosen {
  const known = chosen.get(model);
  if (known) return known;
  const choices: BranchChoice[] = [];
  let result = bindInputs(model, {});
  for (;;) {
    const decided = decisionsOf(result).filter(isDecided);
    if (decided.length === 0) break;
    choices.push(...decided);
    result = bindInputs(result, Object.fromEntries(decided.map(({ input, value }) => [input, value])));
  }
  const found = { model: result, choices };
  chosen.set(model, found);
  if (result !== model) chosen.set(result, { model: result, choices: [] });
  return found;
}

/**
 * The model with the branches that training runs, in the place of the nodes that chose them ({@link branchChoice}); branches of constant
 * conditions too. The same model when it has none. Computed once per model object.
 */
export const chooseBranches = (model: Model): Model => choose(model).model;

/** What {@link chooseBranches} set inputs to. */
export const branchChoices = (model: Model): readonly BranchChoice[] => choose(model).choices;
