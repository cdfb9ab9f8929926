import { toModel } from "../graph/to-model.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { whyNoDelta } from "../methods/method.ts";
import { methodOf } from "../methods/registry.ts";
import type { Model, TensorData } from "../onnx/ir.ts";
import { opsetOf } from "../onnx/opset.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { type Adapter, adaptedSites } from "./adapter.ts";
import { buildAdapted } from "./inject.ts";
import { mergeAdapter } from "./merge.ts";
import { findSites } from "./sites.ts";
import { realTokens } from "./tokens/lengthen.ts";
import { withBlocks } from "./with-blocks.ts";

/**
 * A model with an adapter inside, for methods whose change is none of weights: its nodes are those of an injected adapter, its tensors
 * constants. Same inputs (and what the method reads per row) and outputs as the original; it costs what the adapter costs.
 * @throws PeftError ADAPTER_MISMATCH
 * @example
 * await writeModel(embedAdapter(model, prefix), "with-prefix.onnx");
 */
export function embedAdapter(original: Model, adapter: Adapter): Model {
  const model = prepareModel(original);
  const sites = withBlocks(model, findSites(model), methodOf(adapter.type));
  const plans = adaptedSites(model.graph, sites, adapter);
  const constants = new Map<string, TensorData>();
  for (const { shared, parameters, tensors } of plans) {
    for (const { name, role } of [...shared, ...parameters]) {
      const tensor = tensors[role];
      if (tensor) constants.set(name, tensorFrom("float32", tensor.dims, tensor.data));
    }
  }
  const g = buildAdapted(model, plans, false);
  for (const { name } of model.graph.outputs) g.output(realTokens(g, name, g.value(name), plans, model.graph), name);
  const graph = g.finish({ name: model.graph.name });
  const made = toModel(
    {
      ...graph,
      inputs: graph.inputs.filter(({ name }) => !constants.has(name)),
      initializers: new Map([...graph.initializers, ...constants]),
    },
    opsetOf(model),
    model.metadata,
  );
  return { ...made, opsets: new Map([...model.opsets, ...made.opsets]) };
}

/** The model under an adapter: merged into the weights where the method allows it, else {@link embedAdapter}. */
export const applyAdapter = (model: Model, adapter: Adapter): Model =>
  whyNoDelta(methodOf(adapter.type), adapter.config) === null
    ? mergeAdapter(model, adapter)
    : embedAdapter(model, adapter);
