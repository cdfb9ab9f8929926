import { WireType } from "@bufbuild/protobuf/wire";
import { readText, type TensorContext } from "./decode-tensor.ts";
import { type ElementType, elementTypeOf } from "./element-type.ts";
import type { Dim } from "./ir.ts";
import { checkDims, checkLimit } from "./limits.ts";
import { dimFields, shapeFields, tensorTypeFields, typeFields, valueInfoFields } from "./schema.ts";
import { expectWire, type Field, fieldsOf, readInt } from "./source.ts";

/** A ValueInfoProto as the file has it: type, rank or both may be missing. */
export interface DeclaredValue {
  readonly name: string;
  readonly type?: ElementType;
  readonly shape?: readonly Dim[];
  /** What it is instead of a tensor. */
  readonly unsupported?: string;
}

const otherTypes: ReadonlyMap<number, string> = new Map([
  [typeFields.sequence, "sequence"],
  [typeFields.map, "map"],
  [typeFields.opaque, "opaque"],
  [typeFields.sparseTensor, "sparse tensor"],
  [typeFields.optional, "optional"],
]);

function readDim(context: TensorContext, field: Field, where: string): Dim | null {
  expectWire(field, WireType.LengthDelimited, where);
  let dim: Dim | null = null;
  for (const inner of fieldsOf(context.source, field.start, field.end, where)) {
    if (inner.number === dimFields.value) dim = readInt(context.source, inner, `${where}.dim_value`);
    else if (inner.number === dimFields.param) {
      const name = readText(context, inner, `${where}.dim_param`);
      // Symbols with these beginnings are ours and would claim equality with another unknown.
      dim = name === "" || name.startsWith("?") || name.startsWith("...") ? null : name;
    }
  }
  return dim;
}

function readShape(context: TensorContext, field: Field, where: string): (Dim | null)[] {
  expectWire(field, WireType.LengthDelimited, where);
  const dims: (Dim | null)[] = [];
  for (const inner of fieldsOf(context.source, field.start, field.end, where)) {
    if (inner.number !== shapeFields.dim) continue;
    dims.push(readDim(context, inner, `${where}.dim[${dims.length}]`));
    checkLimit("dimensions", dims.length, context.limits.maxRank, where);
  }
  const known = dims.filter((dim): dim is number => typeof dim === "number");
  // Some exporters write -1 for "unknown".
  checkDims(
    known.filter((dim) => dim !== -1),
    context.limits,
    where,
  );
  return dims.map((dim) => (dim === -1 ? null : dim));
}

interface TensorType {
  type?: ElementType;
  shape?: (Dim | null)[];
  unsupported?: string;
}

function readType(context: TensorContext, field: Field, where: string): TensorType {
  expectWire(field, WireType.LengthDelimited, where);
  const found: TensorType = {};
  for (const inner of fieldsOf(context.source, field.start, field.end, where)) {
    const other = otherTypes.get(inner.number);
    if (other) found.unsupported = other;
    if (inner.number !== typeFields.tensor) continue;
    expectWire(inner, WireType.LengthDelimited, where);
    for (const part of fieldsOf(context.source, inner.start, inner.end, `${where}.tensor_type`)) {
      if (part.number === tensorTypeFields.elementType) {
        const code = readInt(context.source, part, `${where}.elem_type`);
        if (code !== 0) found.type = elementTypeOf(code, where);
      } else if (part.number === tensorTypeFields.shape) found.shape = readShape(context, part, `${where}.shape`);
    }
  }
  return found;
}

/**
 * A ValueInfoProto. Dimensions without a value get a symbol of their own from `freshSymbol`.
 * @throws PeftError ONNX_TRUNCATED, ONNX_INVALID, ONNX_LIMIT, UNKNOWN_ELEMENT_TYPE
 */
export function decodeValue(
  context: TensorContext,
  field: Field,
  path: string,
  freshSymbol: (name: string, axis: number) => string,
): DeclaredValue {
  expectWire(field, WireType.LengthDelimited, path);
  let name = "";
  let found: TensorType = {};
  for (const inner of fieldsOf(context.source, field.start, field.end, path)) {
    if (inner.number === valueInfoFields.name) name = readText(context, inner, `${path}.name`);
    else if (inner.number === valueInfoFields.type) {
      found = readType(context, inner, name ? `${path}.type ("${name}")` : `${path}.type`);
    }
  }
  const { shape, ...rest } = found;
  if (!shape) return { name, ...rest };
  return { name, ...rest, shape: shape.map((dim, axis) => dim ?? freshSymbol(name, axis)) };
}
