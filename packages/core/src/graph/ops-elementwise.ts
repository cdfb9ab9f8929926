import type { ElementType } from "../onnx/element-type.ts";
import { elementTypes } from "../onnx/element-type.ts";
import type { Value } from "../onnx/ir.ts";
import { float } from "./attributes.ts";
import type { GraphCore } from "./core.ts";

/** A value, or a number that becomes a scalar constant of the other operand's type. */
export type Operand = Value | number;

type Unary = (x: Value) => Value;
type Binary = (a: Operand, b: Operand) => Value;

/** Element-wise operators. */
export function elementwiseOps(core: GraphCore) {
  const one = (op: string, inputs: readonly Value[], attributes = {}, domain = ""): Value => {
    const [y] = core.op(op, inputs, attributes, { domain });
    return y as Value;
  };
  const unary =
    (op: string): Unary =>
    (x) =>
      one(op, [x]);
  const binary =
    (op: string): Binary =>
    (a, b) => {
      const type = typeof a === "number" ? (typeof b === "number" ? "float32" : b.type) : a.type;
      const asValue = (x: Operand): Value => (typeof x === "number" ? core.constant(type, x) : x);
      return one(op, [asValue(a), asValue(b)]);
    };
  return {
    add: binary("Add"),
    sub: binary("Sub"),
    mul: binary("Mul"),
    div: binary("Div"),
    pow: binary("Pow"),
    min: binary("Min"),
    max: binary("Max"),
    equal: binary("Equal"),
    greater: binary("Greater"),
    less: binary("Less"),
    and: binary("And"),
    or: binary("Or"),
    not: unary("Not"),
    neg: unary("Neg"),
    abs: unary("Abs"),
    sqrt: unary("Sqrt"),
    reciprocal: unary("Reciprocal"),
    exp: unary("Exp"),
    log: unary("Log"),
    sin: unary("Sin"),
    cos: unary("Cos"),
    tanh: unary("Tanh"),
    sigmoid: unary("Sigmoid"),
    erf: unary("Erf"),
    relu: unary("Relu"),
    identity: unary("Identity"),
    /** max(0, min(1, alpha * x + beta)): one pass, and an affine map wherever it cannot clip. */
    hardSigmoid: (x: Value, alpha: number, beta: number): Value =>
      one("HardSigmoid", [x], { alpha: float(alpha), beta: float(beta) }),
    where: (condition: Value, yes: Value, no: Value): Value => one("Where", [condition, yes, no]),
    cast: (x: Value, type: ElementType): Value =>
      x.type === type ? x : one("Cast", [x], { to: elementTypes[type].code }),
    /** x(1 + erf(x / sqrt 2)) / 2, or its tanh approximation. One node from opset 20, ONNX Runtime's own below. */
    gelu: (x: Value, approximate: "none" | "tanh" = "none"): Value => {
      if (core.opset >= 20) return one("Gelu", [x], { approximate });
      return approximate === "none" ? one("Gelu", [x], {}, "com.microsoft") : one("FastGelu", [x], {}, "com.microsoft");
    },
    /** The value as it is, with no gradient through it. Costs nothing: it is gone from the finished graph. */
    stopGradient: (x: Value): Value => one("StopGradient", [x], {}, "onnx-peft"),
  };
}
