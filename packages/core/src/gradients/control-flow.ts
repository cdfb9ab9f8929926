import { PeftError } from "../errors.ts";
import { graphAttribute } from "../graph/attributes.ts";
import { inlineGraph } from "../graph/import-nodes.ts";
import { buildSubgraph } from "../graph/subgraph.ts";
import { at } from "../onnx/infer/context.ts";
import { alwaysContinues } from "../onnx/infer/control-flow.ts";
import type { Graph, Value } from "../onnx/ir.ts";
import { upTo } from "./axes.ts";
import { inputAt } from "./helpers.ts";
import { type DefinitionContext, definition, type RuleContext, rule } from "./rule.ts";
import { scanBackward } from "./scan.ts";

/** A sub-graph of the node. */
export function subgraph(c: DefinitionContext, name: string): Graph {
  const attribute = c.node.attributes[name];
  if (attribute?.type === "graph") return attribute.value;
  throw new PeftError("ONNX_INVALID", `${c.node.op} "${c.node.name}" lacks the graph "${name}".`);
}

const present = <T>(list: readonly (T | null)[]): T[] => list.filter((v): v is T => v !== null);

/**
 * Y = branch(captured values): another If with the same condition, whose branches compute their forward part again (what
 * a branch computes inside cannot be read from outside) and the gradients of the wanted captured values.
 */
function ifBackward(c: RuleContext): (Value | null)[] {
  const { g } = c;
  const wanted = present(c.inputs.map((v, i) => (c.needs[i] ? v : null)));
  const gradients = (name: string): Graph =>
    buildSubgraph(g, `${name}_gradient`, [], (child) => {
      const outputs = inlineGraph(child, subgraph(c, name), new Map());
      const targets = outputs.flatMap((value, i) => {
        const gradient = c.dOutputs[i];
        return gradient ? [{ value, gradient }] : [];
      });
      return c.differentiate(child, targets, wanted);
    });
  const branches = { then_branch: gradients("then_branch"), else_branch: gradients("else_branch") };
  const results = g.op(
    "If",
    [inputAt(c, 0)],
    { then_branch: graphAttribute(branches.then_branch), else_branch: graphAttribute(branches.else_branch) },
    { count: wanted.length },
  );
  let next = 0;
  return c.inputs.map((_, i) => (c.needs[i] ? at(results, next++) : null));
}

const refuse = (c: DefinitionContext, why: string): never => {
  throw new PeftError(
    "NOT_DIFFERENTIABLE",
    `Expected Loop "${c.node.name}" to run a fixed number of times, but ${why}.`,
    {
      hint: "Export the model with a constant trip count, or choose target modules after this node.",
      details: { node: c.node.name },
    },
  );
};

/** Most iterations that are written out one after the other: each adds the body's nodes to the graph. */
const MOST_UNROLLED = 256;

/** One copy of the body per iteration; carried values may change their sizes. */
function unrolled(c: DefinitionContext, body: Graph, trips: number): Value[] {
  const { g } = c;
  const carriedCount = c.node.inputs.length - 2;
  let carried = upTo(carriedCount).map((i) => inputAt(c, i + 2));
  const collected: Value[][] = body.outputs.slice(1 + carriedCount).map(() => []);
  for (const iteration of upTo(trips)) {
    const values = [g.constant("int64", iteration), g.constant("bool", 1), ...carried];
    const [, ...results] = inlineGraph(g, body, new Map(body.inputs.map((v, i) => [v.name, at(values, i)])));
    carried = results.slice(0, carriedCount);
    results.slice(carriedCount).forEach((value, i) => {
      collected[i]?.push(g.unsqueeze(value, [0]));
    });
  }
  return [...carried, ...collected.map((list) => g.concat(list, 0))];
}

/** The same Loop as a Scan over the iteration numbers. */
function asScan(c: DefinitionContext, body: Graph, trips: Value): Value[] {
  const { g } = c;
  const carried = upTo(c.node.inputs.length - 2).map((i) => inputAt(c, i + 2));
  const count = g.op("Reshape", [trips, g.ints([])])[0] as Value;
  const [numbers] = g.op("Range", [g.constant("int64", 0), count, g.constant("int64", 1)]);
  const step = buildSubgraph(g, "iteration", [...carried, { type: "int64", shape: [] }], (child, inputs) => {
    const values = [at(inputs, -1), child.constant("bool", 1), ...inputs.slice(0, -1)];
    return inlineGraph(child, body, new Map(body.inputs.map((v, i) => [v.name, at(values, i)]))).slice(1);
  });
  return g.op(
    "Scan",
    [...carried, numbers as Value],
    { body: graphAttribute(step), num_scan_inputs: 1 },
    { count: body.outputs.length - 1 },
  );
}

/**
 * A Loop that runs a fixed number of times: a Scan over the iteration numbers where carried values keep their sizes, else
 * (the number being constant) one copy of the body per iteration.
 */
function loopDefinition(c: DefinitionContext): Value[] {
  const { g } = c;
  const body = subgraph(c, "body");
  const condition = c.inputs[1];
  if (!alwaysContinues(body)) refuse(c, "its body decides whether it goes on");
  if (condition && g.intsOf(condition)?.[0] !== 1) refuse(c, `its condition "${condition.name}" is computed`);
  const trips = c.inputs[0] ?? refuse(c, "it has no trip count");
  const keepsSizes = body.outputs.slice(1, c.node.inputs.length - 1).every(({ shape }, i) => {
    const given = inputAt(c, i + 2).shape;
    return given.length === shape.length && shape.every((d, axis) => d === given[axis]);
  });
  if (keepsSizes) return asScan(c, body, trips);
  const known = g.intsOf(trips)?.[0];
  if (typeof known !== "number") refuse(c, "its carried values change their sizes and its trip count is no constant");
  if (Number(known) > MOST_UNROLLED) refuse(c, `${known} iterations that change sizes are more than ${MOST_UNROLLED}`);
  return unrolled(c, body, Number(known));
}

/** Operators with sub-graphs. */
export const controlFlow = {
  If: rule([11, 24], ifBackward),
  Loop: definition([11, 24], loopDefinition),
  Scan: rule([9, 24], scanBackward),
};
