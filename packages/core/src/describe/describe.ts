import { injectAdapter, trainableValues } from "../adapters/inject.ts";
import { isReached, valuesBehind } from "../adapters/reach.ts";
import type { AdapterConfigInput } from "../adapters/select.ts";
import type { ModuleKind, Site } from "../adapters/site.ts";
import { findSites } from "../adapters/sites.ts";
import { differentiate } from "../autodiff/differentiate.ts";
import { recomputeBlocks } from "../autodiff/recompute/recompute-blocks.ts";
import { PeftError } from "../errors.ts";
import { leavesInReverse } from "../graph/leaves-in-reverse.ts";
import { prepareModel } from "../lowering/lower-model.ts";
import { estimateMemory, type MemoryEstimate } from "../memory/estimate.ts";
import { lora } from "../methods/lora.ts";
import type { Method } from "../methods/method.ts";
import { atomsOf, sizeOf } from "../onnx/dims.ts";
import { isFloating } from "../onnx/element-type.ts";
import type { Graph, Model } from "../onnx/ir.ts";
import { elementCount } from "../onnx/tensor.ts";
import { initializersOf, packedWeightOf } from "../quantization/packed-weight.ts";
import { dropoutPoolBytes } from "../train/dropout-feeds.ts";
import { type MissingOperator, operatorsWithoutRule, unknownOperators } from "./missing-rules.ts";

export interface DescribeOptions {
  /** The output that a loss would look at; default the first floating-point one. */
  readonly wantedOutput?: string;
  /** Size of the first symbolic axis of the inputs; default 8. */
  readonly batch?: number;
  /** Size of the other symbolic axes; default 128. */
  readonly tokens?: number;
  /** Sizes of symbols by name, before `batch` and `tokens`; "past" ones are 0 unless given. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** What the estimate trains; default LoRA of rank 8 on all linear layers. */
  readonly method?: Method;
  readonly config?: AdapterConfigInput;
  /** As the training option; default "none". */
  readonly recompute?: "none" | "blocks";
}

export interface ModelDescription {
  readonly sites: readonly Site[];
  /** Operators that the engine does not know at all: such a model cannot be taken over. */
  readonly unknownOperators: readonly MissingOperator[];
  /** Operators between the sites and the wanted output that have no gradient rule. */
  readonly operatorsWithoutRule: readonly MissingOperator[];
  readonly parameters: {
    /** All floating-point values in initialisers; of packed weights what they stand for, not their scales. */
    readonly total: number;
    /** Those of sites, weights and biases; a shared weight counts once. */
    readonly byKind: Readonly<Record<ModuleKind, number>>;
  };
  readonly wantedOutput: string;
  /** null when an operator is in the way. */
  readonly memory: MemoryEstimate | null;
  /** Sizes that the estimate put in for the symbols of the inputs. */
  readonly symbolSizes: Readonly<Record<string, number>>;
}

/**
 * What can be done with a model: its sites, operators in the way of gradients, parameter counts, and an estimate of the
 * memory that training takes (the training graph is built and differentiated for it; weights are not read).
 *
 * @throws PeftError UNKNOWN_OUTPUT
 * @example
 * const description = describeModel(await readModel("model.onnx"), { batch: 8, tokens: 128 });
 * process.stdout.write(formatDescription(description));
 */
export function describeModel(original: Model, options: DescribeOptions = {}): ModelDescription {
  const model = prepareModel(original);
  const { graph } = model;
  const sites = findSites(model);
  const wantedOutput = outputOf(graph, options.wantedOutput);
  const behind = valuesBehind(graph, [wantedOutput]);
  const reached = sites.filter((s) => s.kind === "linear" && isReached(s, behind));
  const from = reached.flatMap((s) => s.uses.map((u) => u.output));
  const unknown = unknownOperators(graph);
  const missing = operatorsWithoutRule(graph, from, [wantedOutput]);
  const symbolSizes = inputSizes(graph, options);
  const possible = unknown.length === 0 && missing.length === 0 && reached.length > 0;
  return {
    sites,
    unknownOperators: unknown,
    operatorsWithoutRule: missing,
    parameters: countParameters(graph, sites),
    wantedOutput,
    memory: possible ? estimate(model, sites, wantedOutput, symbolSizes, options) : null,
    symbolSizes,
  };
}

function outputOf(graph: Graph, name: string | undefined): string {
  const floating = graph.outputs.filter((v) => isFloating(v.type));
  const found = name === undefined ? floating[0] : floating.find((v) => v.name === name);
  if (found) return found.name;
  const shown = floating.map((v) => v.name).join(", ");
  throw new PeftError("UNKNOWN_OUTPUT", `Expected a floating-point output, received "${name ?? "none"}".`, {
    hint: `The model's are [${shown}].`,
  });
}

function inputSizes(graph: Graph, options: DescribeOptions): Record<string, number> {
  const sizes: Record<string, number> = {};
  for (const { shape } of graph.inputs) {
    shape.forEach((dim, axis) => {
      for (const atom of atomsOf(dim)) {
        const usual = /past/i.test(atom) ? 0 : axis === 0 ? (options.batch ?? 8) : (options.tokens ?? 128);
        sizes[atom] ??= options.sizes?.[atom] ?? usual;
      }
    });
  }
  return sizes;
}

function countParameters(graph: Graph, sites: readonly Site[]): ModelDescription["parameters"] {
  const counts = { linear: 0, embedding: 0, norm: 0, conv: 0, experts: 0 };
  const inSites = sites.flatMap(({ uses }) => uses.flatMap(({ weight, bias }) => [weight.packed, bias?.packed]));
  const found = [...graph.nodes.map((node) => packedWeightOf(graph, node)), ...inSites];
  const packed = new Map(found.flatMap((weight) => (weight ? [[weight.data, weight] as const] : [])));
  const ofPacked = new Set([...packed.values()].flatMap(initializersOf));
  const sizes = new Map(
    [...graph.initializers].flatMap(([name, { type, dims }]): [string, number][] => {
      const weight = packed.get(name);
      if (weight) return [[name, elementCount(weight.dims)]];
      return isFloating(type) && !ofPacked.has(name) ? [[name, elementCount(dims)]] : [];
    }),
  );
  const seen = new Set<string>();
  const take = (name: string): number => {
    if (seen.has(name)) return 0;
    seen.add(name);
    return sizes.get(name) ?? 0;
  };
  for (const { kind, weight, bias } of sites) {
    if (kind === "attention" || kind === "tokens") continue; // their weights are those of modules
    counts[kind] += take(weight) + (bias === undefined ? 0 : take(bias));
  }
  return { total: [...sizes.values()].reduce((sum, size) => sum + size, 0), byKind: counts };
}

function estimate(
  model: Model,
  sites: readonly Site[],
  wantedOutput: string,
  symbolSizes: Readonly<Record<string, number>>,
  options: DescribeOptions,
): MemoryEstimate {
  const method = options.method ?? (lora as unknown as Method);
  const config = options.config ?? ({ r: 8, targetModules: "all-linear" } as AdapterConfigInput);
  const adapted = injectAdapter(model, { method, config, sites, wantedOutputs: [wantedOutput], training: true });
  const { g, parameters } = adapted;
  const output = g.value(wantedOutput);
  const loss = g.reduceSum(
    g.cast(output, "float32"),
    output.shape.map((_, axis) => axis),
    false,
  );
  const wanted = trainableValues(adapted);
  differentiate(g, [{ value: loss }], wanted, { unreached: "zeros" }).forEach((gradient, i) => {
    g.output(gradient, `grad:${wanted[i]?.name}`);
  });
  const plain = leavesInReverse(g.finish({ dropUnusedInputs: true }));
  const graph = options.recompute === "blocks" ? recomputeBlocks(plain, g.opset) : plain;
  const sizes = new Map(Object.entries(symbolSizes));
  for (const { shape, dims } of parameters) {
    dims.forEach((dim, axis) => {
      if (typeof dim === "string") sizes.set(dim, shape[axis] ?? 0);
    });
  }
  const dropout = g.dropoutPlan.sites.map(({ draw, value }) => ({ draw, size: sizeOf(value.shape) }));
  const dropoutBytes = dropoutPoolBytes(dropout, sizes);
  const trainedParameters = parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  return estimateMemory({ graph, sizes, trainedParameters, dropoutBytes });
}
