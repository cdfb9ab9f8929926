import { PeftError } from "../errors.ts";
import type { Builder } from "../graph/builder.ts";
import { inlineGraph } from "../graph/import-nodes.ts";
import type { HiddenStates } from "../methods/forward-input.ts";
import type { Dim, Graph, Value } from "../onnx/ir.ts";
import { valuesBehind } from "./reach.ts";

/** Begins the names of everything in the first pass. */
const FIRST = "first:";

export interface FirstPass {
  /** Hidden states [batch, tokens, width] of the model without its adapter. */
  readonly hidden: Value;
  /** What the second pass reads in the place of its initialisers: those that the first one has, so that weights are there once. */
  readonly bindings: ReadonlyMap<string, Value>;
}

/**
 * Adds the model once more, without its adapter and in front of everything else, for methods that look at its hidden states. Of equal nodes
 * in both passes, below the lowest adapted module, ONNX Runtime makes one.
 * @throws PeftError HIDDEN_STATES when no value fits
 */
export function addFirstPass(
  g: Builder,
  graph: Graph,
  { width, name }: HiddenStates,
  { batch, training }: { readonly batch: Dim; readonly training: boolean },
): FirstPass {
  const bindings = new Map(
    [...graph.initializers].map(([initializer, tensor]) => [initializer, g.initializer(initializer, tensor)] as const),
  );
  const behind = valuesBehind(graph, name === null ? graph.outputs.map((v) => v.name) : [name]);
  const nodes = graph.nodes.filter(({ outputs }) => outputs.some((output) => behind.has(output)));
  inlineGraph(g, { ...graph, nodes, initializers: new Map(), outputs: [] }, bindings, { training, prefix: FIRST });
  const fits = ({ shape }: Value): boolean => shape.length === 3 && shape[0] === batch && shape[2] === width;
  const made = nodes.flatMap(({ outputs }) => outputs).filter((output) => g.has(`${FIRST}${output}`));
  const candidates = name === null ? made.reverse() : made.filter((output) => output === name);
  const fitting = candidates.map((output) => g.value(`${FIRST}${output}`)).filter(fits);
  // A pooler reads a single token's vector, [batch, 1, width], behind the states of all.
  const hidden = fitting.find(({ shape }) => shape[1] !== 1) ?? fitting[0];
  if (hidden) return { hidden, bindings };
  throw new PeftError(
    "HIDDEN_STATES",
    `Expected ${name === null ? "a value" : `a value "${name}"`} of shape [${batch}, tokens, ${width}] in the model, found none.`,
    { hint: "Set hiddenSize to the model's width, and hiddenState to the name of the value." },
  );
}
