import type { Model } from "../onnx/ir.ts";
import { chooseBranches } from "./choose-branches.ts";
import { expandNodes } from "./expand.ts";
import { freeSizes } from "./free-sizes.ts";
import { passes } from "./passes.ts";
import { expansions } from "./table.ts";

/**
 * The model in operators that have gradients and sites: first the clusters of `passes.ts` in their order, then every
 * operator that `table.ts` can take apart. The function computed stays the same.
 *
 * Pure and idempotent; the same object when there is nothing to do. Inputs, outputs, initialisers that are still read, node
 * metadata and the names of values that other nodes read stay, so module paths can still be found, and a weight of the file
 * is a weight of the result. Sub-graphs are left alone. A model with an operator that is known nowhere keeps its fused
 * operators; the first step that takes the graph over names the unknown one.
 *
 * @throws PeftError NOT_LOWERED naming the node and the attribute that has no plain form
 */
export function lowerModel(model: Model): Model {
  const recognised = passes.reduce((current, pass) => pass.run(current), model);
  return expandNodes(recognised, expansions);
}

const prepared = new WeakMap<Model, Model>();

/**
 * {@link lowerModel} of the branch that training runs ({@link chooseBranches}), with sizes that may vary ({@link freeSizes}), computed once per model object. `findSites`, `injectAdapter`, `describeModel`, `mergeAdapter`,
 * `unmergeAdapter` and `makeSwappable` call it themselves, so callers hold on to the model as it was read and need not know
 * that there is another form; sites refer to the nodes of this one.
 */
export function prepareModel(model: Model): Model {
  const known = prepared.get(model);
  if (known) return known;
  const lowered = lowerModel(freeSizes(chooseBranches(model)).model);
  prepared.set(model, lowered);
  prepared.set(lowered, lowered);
  return lowered;
}
