import { WireType } from "@bufbuild/protobuf/wire";
import { PeftError } from "../errors.ts";
import type { DecodeContext } from "./decode-context.ts";
import { decodeTensor, readText, readTextOrBytes } from "./decode-tensor.ts";
import type { Attribute, Graph, TensorData } from "./ir.ts";
import { attributeFields, attributeTypes } from "./schema.ts";
import { countFields, eachVarint, expectWire, type Field, fieldsOf, malformed, readInt, readInt64 } from "./source.ts";

/** An attribute, or the name of the function attribute that stands for it. */
export type DecodedAttribute =
  | { readonly name: string; readonly reference: null; readonly attribute: Attribute }
  | { readonly name: string; readonly reference: string };

type Kind = Attribute["type"];

const kindOf = new Map<number, Kind>(
  Object.entries(attributeTypes).map(([kind, code]) => [code, kind as Kind] as const),
);

const narrowInt = (value: bigint): number | bigint => {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
};

/** Values of one attribute as they are found; only one of the fields is in use in a valid file. */
interface Found {
  name: string;
  reference: string;
  code: number;
  float?: number;
  int?: number | bigint;
  string?: string | Uint8Array;
  tensor?: TensorData;
  graph?: Graph;
  floats: number[];
  ints: (number | bigint)[];
  strings: (string | Uint8Array)[];
  tensors: TensorData[];
  graphs: Graph[];
}

function readFloats(context: DecodeContext, field: Field, where: string, out: number[]): void {
  if (field.wire !== WireType.Bit32) expectWire(field, WireType.LengthDelimited, where);
  if ((field.end - field.start) % 4 !== 0) throw malformed(field.start, where, "floats of a broken length");
  countFields(context.source, (field.end - field.start) / 4, field.start, where);
  const bytes = context.source.bytes(field.start, field.end);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < bytes.length; i += 4) out.push(view.getFloat32(i, true));
}

function collect(context: DecodeContext, field: Field, path: string, depth: number): Found {
  const f = attributeFields;
  const { source } = context;
  const found: Found = { name: "", reference: "", code: 0, floats: [], ints: [], strings: [], tensors: [], graphs: [] };
  const once = (isSet: boolean, position: number, name: string): void => {
    if (isSet) throw malformed(position, path, `"${name}" occurs twice`);
  };
  for (const inner of fieldsOf(source, field.start, field.end, path)) {
    const { number, start, end } = inner;
    if (number === f.name) found.name = readText(context, inner, `${path}.name`);
    else if (number === f.refAttrName) found.reference = readText(context, inner, `${path}.ref_attr_name`);
    else if (number === f.type) found.code = readInt(source, inner, `${path}.type`);
    else if (number === f.float) {
      expectWire(inner, WireType.Bit32, `${path}.f`);
      const values: number[] = [];
      readFloats(context, inner, `${path}.f`, values);
      found.float = values[0] ?? 0;
    } else if (number === f.int) found.int = narrowInt(readInt64(source, inner, `${path}.i`));
    else if (number === f.string) found.string = readTextOrBytes(source, inner, `${path}.s`);
    else if (number === f.floats) readFloats(context, inner, `${path}.floats`, found.floats);
    else if (number === f.ints) {
      eachVarint(source, inner, `${path}.ints`, (reader) => {
        countFields(source, 1, start, path);
        found.ints.push(narrowInt(BigInt(reader.int64())));
      });
    } else if (number === f.strings) found.strings.push(readTextOrBytes(source, inner, `${path}.strings`));
    else if (number === f.tensor || number === f.tensors) {
      const isList = number === f.tensors;
      once(!isList && found.tensor !== undefined, start, "t");
      const where = isList ? `${path}.tensors[${found.tensors.length}]` : `${path}.t`;
      expectWire(inner, WireType.LengthDelimited, where);
      const { tensor } = decodeTensor(context, start, end, where);
      if (isList) found.tensors.push(tensor);
      else found.tensor = tensor;
    } else if (number === f.graph || number === f.graphs) {
      const isList = number === f.graphs;
      once(!isList && found.graph !== undefined, start, "g");
      const where = isList ? `${path}.graphs[${found.graphs.length}]` : `${path}.g`;
      expectWire(inner, WireType.LengthDelimited, where);
      const graph = context.subgraph(start, end, where, depth + 1);
      if (isList) found.graphs.push(graph);
      else found.graph = graph;
    } else if (number === f.sparseTensor || number === f.sparseTensors) {
      throw new PeftError("ONNX_UNSUPPORTED", `sparse tensors are not supported, received one at ${path}.`);
    } else if (number === f.typeProto || number === f.typeProtos) {
      throw new PeftError("ONNX_UNSUPPORTED", `type attributes are not supported, received one at ${path}.`);
    }
  }
  return found;
}

/** The kind of an attribute whose file does not say it, from what is set. */
function guessKind(found: Found): Kind | undefined {
  if (found.float !== undefined) return "float";
  if (found.int !== undefined) return "int";
  if (found.string !== undefined) return "string";
  if (found.tensor) return "tensor";
  if (found.graph) return "graph";
  return (["floats", "ints", "strings", "tensors", "graphs"] as const).find((kind) => found[kind].length > 0);
}

/**
 * An AttributeProto. An attribute without a type number (early writers) is told by the field that is set.
 * @throws PeftError with the codes of `decodeModel`
 */
export function decodeAttribute(context: DecodeContext, field: Field, path: string, depth: number): DecodedAttribute {
  expectWire(field, WireType.LengthDelimited, path);
  const found = collect(context, field, path, depth);
  const { name, code } = found;
  const where = `${path} ("${name}")`;
  if (name === "") throw new PeftError("ONNX_INVALID", `expected a name at ${path}, received none.`);
  if (found.reference !== "") return { name, reference: found.reference };
  const kind = code === 0 ? guessKind(found) : kindOf.get(code);
  const make = (attribute: Attribute): DecodedAttribute => ({ name, reference: null, attribute });
  switch (kind) {
    case "float":
      return make({ type: kind, value: found.float ?? 0 });
    case "int":
      return make({ type: kind, value: found.int ?? 0 });
    case "string":
      return make({ type: kind, value: found.string ?? "" });
    case "tensor":
      if (found.tensor) return make({ type: kind, value: found.tensor });
      break;
    case "graph":
      if (found.graph) return make({ type: kind, value: found.graph });
      break;
    case "floats":
      return make({ type: kind, value: found.floats });
    case "ints":
      return make({ type: kind, value: found.ints });
    case "strings":
      return make({ type: kind, value: found.strings });
    case "tensors":
      return make({ type: kind, value: found.tensors });
    case "graphs":
      return make({ type: kind, value: found.graphs });
    case undefined:
      throw new PeftError("ONNX_UNSUPPORTED", `attribute type ${code} is not supported at ${where}.`);
  }
  throw new PeftError("ONNX_INVALID", `expected a ${kind}, received nothing at ${where}.`);
}
