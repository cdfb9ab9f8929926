import type { ElementType } from "../element-type.ts";
import type { Infer } from "./context.ts";
import { broadcast, fail, forAll, input, typeAttribute } from "./context.ts";

/** Output equals the first input in type and shape. */
export const sameAsInput: Infer = (c) => {
  const { type, shape } = input(c, 0);
  return [{ type, shape }];
};

/** Output has the first input's shape and a fixed type. */
export const typed =
  (type: ElementType): Infer =>
  (c) => [{ type, shape: input(c, 0).shape }];

/** All inputs broadcast together; the type is that of input `typeFrom`. */
export const broadcasting =
  (typeFrom = 0): Infer =>
  (c) => {
    const shapes = c.inputs.flatMap((v) => (v ? [v.shape] : []));
    return [{ type: input(c, typeFrom).type, shape: broadcast(c, shapes) }];
  };

export const comparison: Infer = (c) => [{ type: "bool", shape: broadcast(c, [input(c, 0).shape, input(c, 1).shape]) }];

export const cast: Infer = (c) => {
  const to = typeAttribute(c.node, "to", "string");
  if (to === "string") fail(c, "a Cast to text is not supported.");
  return [{ type: to, shape: input(c, 0).shape }];
};

export const castLike: Infer = (c) => [{ type: input(c, 1).type, shape: input(c, 0).shape }];

export const dropout: Infer = (c) => {
  const { type, shape } = input(c, 0);
  return [
    { type, shape },
    { type: "bool", shape },
  ];
};

const unary = [
  "Neg",
  "Abs",
  "Sqrt",
  "Reciprocal",
  "Exp",
  "Log",
  "Sin",
  "Cos",
  "Tan",
  "Sinh",
  "Cosh",
  "Tanh",
  "Asin",
  "Acos",
  "Atan",
  "Asinh",
  "Acosh",
  "Atanh",
  "Sigmoid",
  "Erf",
  "Relu",
  "LeakyRelu",
  "Elu",
  "Celu",
  "Selu",
  "Softplus",
  "Softsign",
  "HardSigmoid",
  "HardSwish",
  "Mish",
  "Gelu",
  "Swish",
  "ThresholdedRelu",
  "Clip",
  "Sign",
  "Floor",
  "Ceil",
  "Round",
  "Not",
  "BitwiseNot",
  "Identity",
  "Softmax",
  "LogSoftmax",
  "Hardmax",
  "CumSum",
  "Trilu",
] as const;
const binary = [
  "Add",
  "Sub",
  "Mul",
  "Div",
  "Pow",
  "Mod",
  "PRelu",
  "And",
  "Or",
  "Xor",
  "Min",
  "Max",
  "Sum",
  "Mean",
] as const;
const comparisons = ["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"] as const;

export const elementwise = {
  ...forAll(unary, sameAsInput),
  ...forAll(binary, broadcasting()),
  ...forAll(comparisons, comparison),
  IsNaN: typed("bool"),
  IsInf: typed("bool"),
  Where: broadcasting(1),
  Cast: cast,
  CastLike: castLike,
  Dropout: dropout,
  "com.microsoft::Gelu": sameAsInput,
  "com.microsoft::QuickGelu": sameAsInput,
  "com.microsoft::FastGelu": sameAsInput,
  "com.microsoft::BiasGelu": sameAsInput,
  "onnx-peft::StopGradient": sameAsInput,
} satisfies Record<string, Infer>;
