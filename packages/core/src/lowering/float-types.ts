import type { ElementType } from "../onnx/element-type.ts";
import type { Node } from "../onnx/ir.ts";

export const isHalf = (type: ElementType): boolean => type === "float16" || type === "bfloat16";

/** Type numbers of float16 and bfloat16. */
export const halfCodes = new Set([10, 16]);

const floatCodes = new Set([1, 10, 11, 16]);

/** First outputs that are integers or booleans whatever the inputs are. */
const integerResults = new Set([
  ...["Shape", "Size", "ArgMax", "ArgMin", "NonZero", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"],
  ...["And", "Or", "Xor", "Not", "IsNaN", "IsInf", "QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"],
  ...["ConvInteger", "QLinearMatMul", "QLinearConv", "BitShift", "Range", "StringNormalizer", "TfIdfVectorizer"],
]);

/**
 * Whether the first output of a node is certainly floating-point: nodes that compute keep the type of their first input
 * (Where: of its second), a Cast says its own. False where nothing is certain.
 */
export function makesFloats(node: Node, isFloat: (name: string) => boolean): boolean {
  if (integerResults.has(node.op)) return false;
  if (node.op === "Cast") {
    const to = node.attributes["to"];
    return to?.type === "int" && floatCodes.has(Number(to.value));
  }
  if (node.op === "DequantizeLinear" || node.op === "Where") return isFloat(node.inputs[1] ?? "");
  return isFloat(node.inputs[0] ?? "");
}
