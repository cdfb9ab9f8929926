import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { type ElementType, elementTypes } from "../element-type.ts";
import {
  attributeFields,
  functionFields,
  graphFields,
  modelFields,
  nodeFields,
  opsetFields,
  tensorFields,
  valueInfoFields,
} from "../schema.ts";

/** Hand-made protobuf messages, for files that our own writer would never write. */
export type Piece = (writer: BinaryWriter) => void;

export const message = (...pieces: Piece[]): Uint8Array => {
  const writer = new BinaryWriter();
  for (const piece of pieces) piece(writer);
  return writer.finish();
};

export const bytes =
  (field: number, content: Uint8Array): Piece =>
  (w) =>
    void w.tag(field, WireType.LengthDelimited).bytes(content);
export const text =
  (field: number, content: string): Piece =>
  (w) =>
    void w.tag(field, WireType.LengthDelimited).string(content);
export const int =
  (field: number, value: number | bigint): Piece =>
  (w) =>
    void w.tag(field, WireType.Varint).int64(value);
export const float =
  (field: number, value: number): Piece =>
  (w) =>
    void w.tag(field, WireType.Bit32).float(value);
export const inner = (field: number, ...pieces: Piece[]): Piece => bytes(field, message(...pieces));
export const packed = (field: number, write: (writer: BinaryWriter) => void): Piece => bytes(field, message(write));

/** A TensorProto's fields; `data` are the fields that hold the values. */
export const tensorPieces = (
  name: string,
  type: ElementType,
  dims: readonly (number | bigint)[],
  ...data: Piece[]
): Piece[] => [
  ...dims.map((dim) => int(tensorFields.dims, dim)),
  int(tensorFields.dataType, elementTypes[type].code),
  text(tensorFields.name, name),
  ...data,
];

export const initializer = (
  name: string,
  type: ElementType,
  dims: readonly (number | bigint)[],
  ...data: Piece[]
): Piece => inner(graphFields.initializer, ...tensorPieces(name, type, dims, ...data));

export const raw = (content: Uint8Array): Piece => bytes(tensorFields.rawData, content);

/** `external_data` entries and the mark that they are in use. */
export const external =
  (entries: Record<string, string>): Piece =>
  (w) => {
    for (const [key, value] of Object.entries(entries))
      inner(tensorFields.externalData, text(1, key), text(2, value))(w);
    int(tensorFields.dataLocation, 1)(w);
  };

export const nodePiece = (op: string, inputs: string[], outputs: string[], ...more: Piece[]): Piece =>
  inner(
    graphFields.node,
    ...inputs.map((name) => text(nodeFields.input, name)),
    ...outputs.map((name) => text(nodeFields.output, name)),
    text(nodeFields.opType, op),
    ...more,
  );

export const attributePiece = (name: string, code: number, ...content: Piece[]): Piece =>
  inner(
    nodeFields.attribute,
    text(attributeFields.name, name),
    ...content,
    ...(code ? [int(attributeFields.type, code)] : []),
  );

/** A ValueInfoProto; without `dims` it has no shape, null is a dimension without a value. */
export const valuePiece = (
  field: number,
  name: string,
  dims?: readonly (number | bigint | string | null)[],
  type: ElementType = "float32",
): Piece => {
  const shape = (dims ?? []).map((dim) =>
    inner(1, ...(dim === null ? [] : [typeof dim === "string" ? text(2, dim) : int(1, dim)])),
  );
  const tensorType = inner(1, int(1, elementTypes[type].code), ...(dims ? [inner(2, ...shape)] : []));
  return inner(field, text(valueInfoFields.name, name), inner(valueInfoFields.type, tensorType));
};

export const opset = (version: number, domain = ""): Piece =>
  inner(modelFields.opsetImport, text(opsetFields.domain, domain), int(opsetFields.version, version));

export const modelBytes = (
  graph: readonly Piece[],
  before: readonly Piece[] = [opset(17)],
  irVersion = 8,
): Uint8Array =>
  message(
    int(modelFields.irVersion, irVersion),
    ...before,
    inner(modelFields.graph, text(graphFields.name, "g"), ...graph),
  );

/** `y = Identity(x)` over a float32 vector, with more pieces. */
export const identityGraph = (...more: Piece[]): Piece[] => [
  nodePiece("Identity", ["x"], ["y"]),
  valuePiece(graphFields.input, "x", ["n"]),
  valuePiece(graphFields.output, "y", ["n"]),
  ...more,
];

/** Content of a NodeProto. */
export const nodeContent = (op: string, inputs: string[], outputs: string[], ...more: Piece[]): Uint8Array =>
  message(
    ...inputs.map((name) => text(nodeFields.input, name)),
    ...outputs.map((name) => text(nodeFields.output, name)),
    text(nodeFields.opType, op),
    ...more,
  );

/** Marks a node as a call of a function of the domain "local". */
export const local: Piece = text(nodeFields.domain, "local");

/** A function `local.name(a) = c`. */
export const functionPiece = (name: string, nodes: readonly Uint8Array[], ...more: Piece[]): Piece =>
  inner(
    modelFields.functions,
    text(functionFields.name, name),
    text(functionFields.domain, "local"),
    text(functionFields.input, "a"),
    text(functionFields.output, "c"),
    ...nodes.map((content) => bytes(functionFields.node, content)),
    ...more,
  );
