import type { Node } from "../onnx/ir.ts";
import { type Cluster, either, isNear, type Matcher, replaceClusters } from "./matcher.ts";
import type { Pass } from "./pass.ts";

/** Coefficients of a polynomial in one value, by exponent. */
type Polynomial = ReadonlyMap<number, number>;

const deepest = 12;
const highest = 4;

const times = (a: Polynomial, b: Polynomial): Polynomial => {
  const result = new Map<number, number>();
  for (const [i, x] of a) for (const [j, y] of b) result.set(i + j, (result.get(i + j) ?? 0) + x * y);
  return result;
};

/** The polynomial in `x` that a value is, through Add, Mul, Div and Pow by constants; null when it is none. Collects nodes. */
function polynomialIn(m: Matcher, x: string, name: string, nodes: Set<Node>, depth = 0): Polynomial | null {
  if (name === x) return new Map([[1, 1]]);
  const constant = m.scalar(name);
  if (constant !== null) return new Map([[0, constant]]);
  const node = m.made(name, "Add", "Mul", "Div", "Pow");
  if (!node || depth > deepest) return null;
  nodes.add(node);
  const [left = "", right = ""] = node.inputs;
  const a = polynomialIn(m, x, left, nodes, depth + 1);
  if (!a) return null;
  if (node.op === "Div" || node.op === "Pow") {
    const by = m.scalar(right);
    if (by === null || by === 0) return null;
    if (node.op === "Div") return times(a, new Map([[0, 1 / by]]));
    if (!Number.isInteger(by) || by < 1 || by > highest) return null;
    return Array.from({ length: by - 1 }).reduce<Polynomial>((product) => times(product, a), a);
  }
  const b = polynomialIn(m, x, right, nodes, depth + 1);
  if (!b) return null;
  if (node.op === "Mul") return times(a, b);
  const sum = new Map(a);
  for (const [i, y] of b) sum.set(i, (sum.get(i) ?? 0) + y);
  return sum;
}

/** True when the polynomial has these coefficients and no others. */
const isPolynomial = (found: Polynomial | null, expected: Polynomial): boolean =>
  found !== null &&
  [...found.keys()].every((i) => expected.has(i)) &&
  [...expected].every(([i, c]) => Math.abs((found.get(i) ?? 0) - c) <= 5e-7 * Math.abs(c));

interface Product {
  readonly constant: number;
  readonly factors: readonly string[];
  readonly nodes: ReadonlySet<Node>;
}

/** Factors of a product written with several Muls; constants are multiplied out. */
function factorsOf(m: Matcher, root: Node): Product {
  const nodes = new Set([root]);
  const factors: string[] = [];
  let constant = 1;
  const pending = [...root.inputs];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const number = m.scalar(name);
    const inner = m.isReadOnce(name) ? m.made(name, "Mul") : null;
    if (number !== null) constant *= number;
    else if (inner && nodes.size < deepest) {
      nodes.add(inner);
      pending.push(...inner.inputs);
    } else factors.push(name);
  }
  return { constant, factors, nodes };
}

const root2OverPi = Math.sqrt(2 / Math.PI);
const erfArgument: Polynomial = new Map([[1, Math.SQRT1_2]]);
const tanhArgument: Polynomial = new Map([
  [1, root2OverPi],
  [3, root2OverPi * 0.044715],
]);

interface Gate {
  readonly op: "Gelu" | "FastGelu" | "QuickGelu";
  /** What the constants of the product must come to. */
  readonly constant: number;
  readonly nodes: ReadonlySet<Node>;
  readonly alpha?: number;
}

/** What `name` is of x: 1 + erf(x / sqrt 2), 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)), or sigmoid(alpha x). */
function gateOf(m: Matcher, x: string, name: string): Gate | null {
  const sigmoid = m.made(name, "Sigmoid");
  if (sigmoid) {
    const nodes = new Set([sigmoid]);
    const argument = polynomialIn(m, x, sigmoid.inputs[0] ?? "", nodes);
    const alpha = argument?.get(1) ?? 0;
    return isPolynomial(argument, new Map([[1, alpha]])) && alpha > 0
      ? { op: "QuickGelu", constant: 1, nodes, alpha }
      : null;
  }
  const add = m.made(name, "Add");
  const curve = either(add, (input) => (m.scalar(input) === 1 ? true : null));
  const inner = m.made(curve?.other, "Erf", "Tanh");
  if (!add || !inner) return null;
  const nodes = new Set([add, inner]);
  const argument = polynomialIn(m, x, inner.inputs[0] ?? "", nodes);
  const isErf = inner.op === "Erf";
  if (!isPolynomial(argument, isErf ? erfArgument : tanhArgument)) return null;
  return { op: isErf ? "Gelu" : "FastGelu", constant: 0.5, nodes };
}

function findActivation(m: Matcher, last: Node): Cluster | null {
  if (last.op !== "Mul" || last.domain !== "") return null;
  const { constant, factors, nodes } = factorsOf(m, last);
  const [a, b] = factors;
  if (factors.length !== 2 || a === undefined || b === undefined) return null;
  for (const [x, gate] of [
    [a, gateOf(m, a, b)],
    [b, gateOf(m, b, a)],
  ] as const) {
    if (!gate || !isNear(constant, gate.constant)) continue;
    return {
      nodes: new Set([...nodes, ...gate.nodes]),
      last,
      op: gate.op,
      domain: "com.microsoft",
      inputs: [x],
      attributes: gate.alpha === undefined ? {} : { alpha: { type: "float", value: gate.alpha } },
    };
  }
  return null;
}

/**
 * Activations written in single operators as one: x (1 + erf(x / sqrt 2)) / 2, the tanh form of it, and x sigmoid(alpha x),
 * in any order of factors and however their arguments are written. In float32, with exactly these constants, and only where
 * nothing else reads what is inside.
 */
export const recogniseActivations: Pass = {
  name: "activations",
  run: (model) => replaceClusters(model, findActivation),
};
