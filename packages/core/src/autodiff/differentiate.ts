import { PeftError } from "../errors.ts";
import type { RuleContext } from "../gradients/rule.ts";
import { gradientRuleOf } from "../gradients/table.ts";
import type { Builder } from "../graph/builder.ts";
import { isFloating } from "../onnx/element-type.ts";
import type { Node, Value } from "../onnx/ir.ts";
import { readNames, subgraphsOf } from "../onnx/structure.ts";
import { markOrigin } from "./origin.ts";
import { sumToShape } from "./sum-to-shape.ts";

/** A value to differentiate. A scalar needs no gradient of its own; anything else is given one of its own shape. */
export interface DifferentiationTarget {
  readonly value: Value;
  /** The supplied output gradient dL/dvalue; default 1 for a scalar. */
  readonly gradient?: Value;
}

export interface DifferentiateOptions {
  /** What to do with a wanted value that no target depends on; default "error". */
  readonly unreached?: "error" | "zeros";
}

/**
 * Reverse-mode differentiation by extending the graph: returns the gradient of the sum of all targets (each weighed by
 * its supplied gradient) with respect to each of `wanted`, which may be graph inputs or values in the middle. Only
 * nodes on a path from a wanted value to a target are visited: no weight gradients of frozen weights, nothing below
 * the earliest wanted value. Can be called again on the same builder for further gradients.
 *
 * @throws PeftError NO_GRADIENT_RULE, GRADIENT_UNREACHED, GRADIENT_SHAPE, GRADIENT_ARITY
 * @example
 * const g = createBuilder();
 * const x = g.input("x", "float32", [3]);
 * const [dX] = differentiate(g, [{ value: g.reduceSum(g.mul(x, x), [0], false) }], [x]); // 2 x
 */
export function differentiate(
  g: Builder,
  targets: readonly DifferentiationTarget[],
  wanted: readonly Value[],
  options: DifferentiateOptions = {},
): Value[] {
  const active = expandDefinitions(g, wanted);
  const nodes = [...g.nodes];
  const partial = new Map<string, Flow[]>();
  for (const { value, gradient } of targets) push(partial, value, { gradient: gradient ?? seed(g, value), from: null });
  const totals = new Map<string, Value>();
  const total = (value: Value): Value | null => {
    const known = totals.get(value.name);
    if (known) return known;
    const parts = partial.get(value.name);
    const [first, ...rest] = (parts ?? []).map(({ gradient }) => gradient);
    if (!first) return null;
    const sum = rest.reduce((a, b) => g.add(a, b), first);
    totals.set(value.name, sum);
    return sum;
  };
  const onlyUse: RuleContext["onlyUse"] = (value) => {
    const [first, ...rest] = partial.get(value.name) ?? [];
    return rest.length === 0 ? (first?.from ?? null) : null;
  };
  g.scoped("grad", () => {
    for (const node of nodes.reverse()) {
      const inputs = valuesRead(g, node);
      const needs = inputs.map((v) => v !== null && active.has(v.name));
      if (!needs.includes(true) || !node.outputs.some((name) => partial.has(name))) continue;
      const before = g.nodes.length;
      const outputs = node.outputs.map((name) => (name === "" ? null : g.value(name)));
      const dOutputs = outputs.map((v) => (v ? total(v) : null));
      const gradients = g.scoped(node.name || node.op, () =>
        applyRule({ g, node, inputs, outputs, dOutputs, needs, differentiate: inside, onlyUse, gradientOf: total }),
      );
      gradients.forEach((gradient, i) => {
        const value = inputs[i];
        if (gradient && value && needs[i])
          push(partial, value, { gradient: sumToShape(g, gradient, value), from: node });
      });
      markOrigin(g.nodes, before, node);
    }
  });
  return wanted.map((value) => total(value) ?? unreached(g, value, targets, options));
}

const inside: RuleContext["differentiate"] = (g, targets, wanted) =>
  differentiate(g, targets, wanted, { unreached: "zeros" });

/** The node's inputs, and after them the values that its sub-graphs take from outside. */
function valuesRead(g: Builder, node: Node): (Value | null)[] {
  const captured = subgraphsOf(node).length === 0 ? [] : [...readNames(node)].filter((n) => !node.inputs.includes(n));
  return [...node.inputs, ...captured].map((name) => (name === "" ? null : g.value(name)));
}

/**
 * Replaces nodes that are differentiated through their definition and depend on a wanted value, until none is left.
 * Returns the names of the values that depend on a wanted one.
 */
function expandDefinitions(g: Builder, wanted: readonly Value[]): Set<string> {
  for (;;) {
    const active = dependents(g, g.nodes, wanted);
    const composed = g.nodes.filter((node) => {
      const rule = gradientRuleOf(node);
      return rule && "define" in rule && [...readNames(node)].some((name) => active.has(name));
    });
    if (composed.length === 0) return active;
    g.replaceNodes(composed, (node) => {
      const rule = gradientRuleOf(node);
      if (!rule || !("define" in rule)) throw new PeftError("NO_GRADIENT_RULE", `${node.op} has no definition.`);
      checkOpset(g, node, rule.opsets);
      const outputs = node.outputs.map((name) => (name === "" ? null : g.value(name)));
      return rule.define({ g, node, inputs: valuesRead(g, node), outputs });
    });
  }
}

/** Names of the values that depend on a wanted one through differentiable operators, the wanted ones included. */
function dependents(g: Builder, nodes: readonly Node[], wanted: readonly Value[]): Set<string> {
  const active = new Set<string>();
  for (const value of wanted) {
    if (!isFloating(value.type)) {
      throw new PeftError(
        "NOT_DIFFERENTIABLE",
        `"${value.name}" is ${value.type}; only floating-point values have gradients.`,
      );
    }
    active.add(value.name);
  }
  for (const node of nodes) {
    const read = valuesRead(g, node).filter((value) => value && active.has(value.name));
    if (read.length === 0) continue;
    const rule = gradientRuleOf(node);
    if (rule && "none" in rule) continue;
    // Quantised values carry gradients on to where they are turned back; other integers do not.
    const quantized = new Set(read.flatMap((value) => (value && !isFloating(value.type) ? [value.type] : [])));
    const quantizes = rule && "quantizes" in rule;
    for (const name of node.outputs) {
      if (name === "") continue;
      const { type } = g.value(name);
      if (isFloating(type) || quantizes || quantized.has(type)) active.add(name);
    }
  }
  return active;
}

function applyRule(context: RuleContext): readonly (Value | null)[] {
  const { g, node } = context;
  const rule = gradientRuleOf(node);
  if (!rule) {
    throw new PeftError(
      "NO_GRADIENT_RULE",
      `Node "${node.name}" (${node.op}) lies between an adapter and the loss, and ${node.op} has no gradient rule.`,
      {
        hint: "Choose target modules after this node, or add a rule: see CONTRIBUTING.md.",
        details: { op: node.op, domain: node.domain, node: node.name },
      },
    );
  }
  if ("none" in rule) return context.inputs.map(() => null);
  if ("define" in rule) throw new PeftError("NO_GRADIENT_RULE", `${node.op} "${node.name}" was not replaced.`);
  checkOpset(g, node, rule.opsets);
  const gradients = rule.backward(context);
  if (gradients.slice(context.inputs.length).some((gradient) => gradient !== null)) {
    throw new PeftError(
      "GRADIENT_ARITY",
      `The rule of ${node.op} returned ${gradients.length} gradients for ${context.inputs.length} inputs.`,
    );
  }
  return gradients;
}

function checkOpset(g: Builder, node: Node, [from, to]: readonly [number, number]): void {
  if (node.domain !== "" || (g.opset >= from && g.opset <= to)) return;
  throw new PeftError(
    "OPSET",
    `The gradient rule of ${node.op} covers opsets ${from} to ${to}; node "${node.name}" is in opset ${g.opset}.`,
  );
}

function seed(g: Builder, value: Value): Value {
  if (value.shape.length !== 0) {
    throw new PeftError(
      "GRADIENT_SHAPE",
      `"${value.name}" has shape [${value.shape.join(", ")}]; only a scalar can be differentiated without a supplied gradient.`,
      {
        hint: "Reduce it to a scalar, or pass `gradient`.",
      },
    );
  }
  return g.constant(value.type, 1);
}

/** A part of a value's gradient and the node that reads the value; null for a target. */
interface Flow {
  readonly gradient: Value;
  readonly from: Node | null;
}

function push(partial: Map<string, Flow[]>, value: Value, flow: Flow): void {
  const list = partial.get(value.name);
  if (list) list.push(flow);
  else partial.set(value.name, [flow]);
}

function unreached(
  g: Builder,
  value: Value,
  targets: readonly DifferentiationTarget[],
  options: DifferentiateOptions,
): Value {
  if (options.unreached === "zeros") return g.filled(value.shape, 0, value.type, value);
  throw new PeftError(
    "GRADIENT_UNREACHED",
    `None of [${targets.map((t) => t.value.name).join(", ")}] depends on "${value.name}".`,
    {
      hint: "Is this module used by the task? Exclude it, or ask for zero gradients.",
    },
  );
}
