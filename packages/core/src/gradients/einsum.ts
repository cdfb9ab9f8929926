import { PeftError } from "../errors.ts";
import { type EinsumEquation, readEquation } from "../onnx/einsum-equation.ts";
import { at, stringAttribute } from "../onnx/infer/context.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { type RuleContext, rule } from "./rule.ts";

function equationOf(c: RuleContext): EinsumEquation {
  const text = stringAttribute(c.node, "equation", "");
  const equation = readEquation(
    text,
    c.inputs.map((_, i) => inputAt(c, i).shape.length),
  );
  if (equation) return equation;
  throw new PeftError("SHAPE_INFERENCE", `The equation "${text}" of Einsum "${c.node.name}" does not fit its inputs.`);
}

/** Ones on the diagonal of axes `first` and `second` of a tensor of the given rank, size 1 elsewhere. */
function diagonal(c: RuleContext, size: Dim, rank: number, first: number, second: number): Value {
  const { g } = c;
  const eye = g.op("EyeLike", [g.filled([size, size], 0)])[0] as Value;
  return g.unsqueeze(
    eye,
    Array.from({ length: rank }, (_, i) => i).filter((i) => i !== first && i !== second),
  );
}

/** Gradient of input `index`: dY and the other inputs contracted to its letters. */
function inputGradient(c: RuleContext, { terms, output }: EinsumEquation, index: number): Value {
  const { g } = c;
  const x = inputAt(c, index);
  const own = [...at(terms, index)];
  const others = terms.flatMap((term, i) => (i === index ? [] : [{ term, value: inputAt(c, i) }]));
  const available = new Set([...output, ...others.flatMap(({ term }) => [...term])]);
  const distinct = [...new Set(own)];
  const reached = distinct.filter((l) => available.has(l));
  const equation = `${[output, ...others.map((o) => o.term)].join(",")}->${reached.join("")}`;
  const operands = [dOutput(c), ...others.map((o) => o.value)];
  let dX = g.op("Einsum", operands, { equation })[0] as Value;
  // Letters that only this term has were summed out: dY is the same along them.
  const missing = distinct.flatMap((l, i) => (available.has(l) ? [] : [i]));
  if (missing.length > 0) {
    const sizes = distinct.map((l) => at(x.shape, own.indexOf(l)));
    dX = g.unsqueeze(dX, missing);
    dX = g.expand(
      dX,
      dX.shape.map((d, i) => (missing.includes(i) ? at(sizes, i) : d)),
    );
  }
  // A letter that the term has twice reads a diagonal: nothing flows elsewhere.
  own.forEach((letter, axis) => {
    const first = own.indexOf(letter);
    if (first === axis) return;
    const rank = dX.shape.length + 1;
    dX = g.mul(g.unsqueeze(dX, [axis]), diagonal(c, at(x.shape, first), rank, first, axis));
  });
  return dX;
}

/** Sums of products written as letters. */
export const einsum = {
  /**
   * Y[out] = sum over the letters not in out of the product of all inputs.
   *   dX_i = the same product with X_i replaced by dY, contracted to X_i's letters. Saves the other inputs.
   */
  Einsum: rule([12, 24], (c) => {
    const equation = equationOf(c);
    return c.inputs.map((_, i) => (c.needs[i] ? inputGradient(c, equation, i) : null));
  }),
};
