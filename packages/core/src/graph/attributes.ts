import type { Attribute, Graph, TensorData } from "../onnx/ir.ts";

/** What builder calls accept as an attribute: integers and text as they are, other kinds as an {@link Attribute}. */
export type AttributeInput = number | string | readonly number[] | Attribute;

/** A floating-point attribute; a bare number is always an integer. */
export const float = (value: number): Attribute => ({ type: "float", value });
export const tensorAttribute = (value: TensorData): Attribute => ({ type: "tensor", value });
export const graphAttribute = (value: Graph): Attribute => ({ type: "graph", value });

export function toAttribute(value: AttributeInput): Attribute {
  if (typeof value === "number") return { type: "int", value };
  if (typeof value === "string") return { type: "string", value };
  if (Array.isArray(value)) return { type: "ints", value };
  return value as Attribute;
}
