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

/** The If nodes that an input decides, and what each is told when the input is true. */
function decidedBy({ graph }: Model, input: string): { readonly node: Node; readonly whenTrue: boolean }[] {
  const known = new Map([[input, true]]);
  const decided: { node: Node; whenTrue: boolean }[] = [];
  for (const node of graph.nodes) {
    const whenTrue = isIf(node) ? known.get(node.inputs[0] ?? "") : undefined;
    if (whenTrue !== undefined) decided.push({ node, whenTrue });
    const truth = truthOf(node, known);
    if (truth !== undefined) known.set(node.outputs[0] ?? "", truth);
  }
  return decided;
}

/** What an input that decides branches is set to, and why; `value` is null where nothing says which branch is the one to train. */
interface Decision {
  readonly input: string;
  readonly value: boolean | null;
  readonly reason: string;
}

/** What to set an input to that decides branches; null for one that decides none. */
function decisionOf(model: Model, input: Value): Decision | null {
  const { graph } = model;
  const decided = isChoice(input) && !graph.initializers.has(input.name) ? decidedBy(model, input.name) : [];
  if (decided.length === 0) return null;
  const caches = graph.inputs.filter(isCache);
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
  for (const input of model.graph.inputs) {
    const decision = decisionOf(model, input);
    if (decision !== null && decision.value !== null) return { ...decision, value: decision.value };
  }
  return null;
}

/** Inputs that decide branches and that nothing chooses a value for, with the reason. */
export const undecidedBranches = (model: Model): { readonly input: string; readonly reason: string }[] =>
  model.graph.inputs.flatMap((input) => {
    const decision = decisionOf(model, input);
    return decision?.value === null ? [decision] : [];
  });

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
  for (let choice = branchChoice(result); choice; choice = branchChoice(result)) {
    choices.push(choice);
    result = bindInputs(result, { [choice.input]: choice.value });
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
