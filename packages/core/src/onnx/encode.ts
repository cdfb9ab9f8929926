import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { PeftError } from "../errors.ts";
import { byteLength, elementTypes } from "./element-type.ts";
import { elementCount } from "./elements.ts";
import type { Attribute, FileRange, Graph, Model, Node, Shape, TensorData, ValueType } from "./ir.ts";
import * as field from "./schema.ts";
import { hasUnknownRank, isAnonymous, isUndeclared } from "./unknown-shape.ts";

/** A place of bytes relative to the folder of the model file. */
export interface ExternalReference {
  readonly location: string;
  readonly offset: number;
  readonly length: number;
}

export interface EncodeContext {
  /** Bytes of a tensor that must be embedded inside a nested message. */
  readonly readBytes: (tensor: TensorData) => Uint8Array;
  /** Where the bytes of an initialiser lie, or null to embed them. */
  readonly reference: (tensor: TensorData, name: string) => ExternalReference | null;
}

/** A piece of an encoded file: bytes, or payload that is still in another file. */
export type Part = Uint8Array | FileRange;

/** The largest message protobuf implementations accept. */
export const largestMessage = 2 ** 31 - 1;

const delimited = WireType.LengthDelimited;

const invalid = (message: string): PeftError => new PeftError("ONNX_INVALID", message);

function writeText(writer: BinaryWriter, number: number, text: string): void {
  if (text !== "") writer.tag(number, delimited).string(text);
}

function writeInt(writer: BinaryWriter, value: number | bigint, where: string): void {
  const fits = typeof value === "bigint" ? BigInt.asIntN(64, value) === value : Number.isSafeInteger(value);
  if (!fits) throw invalid(`expected a 64-bit integer at ${where}, received ${value}.`);
  writer.int64(value);
}

function writeFloat(writer: BinaryWriter, value: number, where: string): void {
  if (Number.isFinite(value) && !Number.isFinite(Math.fround(value))) {
    throw invalid(`expected a float32 at ${where}, received ${value}.`);
  }
  writer.float(value);
}

function writeEntry(writer: BinaryWriter, number: number, key: string, value: string): void {
  writer.tag(number, delimited).fork();
  writer.tag(field.entryFields.key, delimited).string(key);
  writer.tag(field.entryFields.value, delimited).string(value).join();
}

function writeShape(writer: BinaryWriter, shape: Shape, where: string): void {
  if (hasUnknownRank(shape)) return;
  writer.tag(field.tensorTypeFields.shape, delimited).fork();
  for (const dim of shape) {
    writer.tag(field.shapeFields.dim, delimited).fork();
    if (typeof dim === "number") writeInt(writer.tag(field.dimFields.value, WireType.Varint), dim, where);
    else if (!isAnonymous(dim)) writer.tag(field.dimFields.param, delimited).string(dim);
    writer.join();
  }
  writer.join();
}

function writeValue(writer: BinaryWriter, number: number, name: string, { type, shape }: ValueType): void {
  writer.tag(number, delimited).fork();
  writer.tag(field.valueInfoFields.name, delimited).string(name);
  if (isUndeclared(shape)) {
    writer.join();
    return;
  }
  writer.tag(field.valueInfoFields.type, delimited).fork();
  writer.tag(field.typeFields.tensor, delimited).fork();
  writer.tag(field.tensorTypeFields.elementType, WireType.Varint).int32(elementTypes[type].code);
  writeShape(writer, shape, `value "${name}"`);
  writer.join().join().join();
}

/** Everything of a TensorProto but the payload of `raw_data`, whose tag and length are written last. */
function tensorHead(name: string, tensor: TensorData, reference: ExternalReference | null): Uint8Array {
  const writer = new BinaryWriter();
  const count = elementCount(tensor.dims, `tensor "${name}"`);
  if (tensor.dims.length > 0) {
    writer.tag(field.tensorFields.dims, delimited).fork();
    for (const dim of tensor.dims) writer.int64(dim);
    writer.join();
  }
  writer.tag(field.tensorFields.dataType, WireType.Varint).int32(elementTypes[tensor.type].code);
  writeText(writer, field.tensorFields.name, name);
  if (tensor.type === "string") {
    if (tensor.strings?.length !== count) {
      throw invalid(`tensor "${name}" has shape [${tensor.dims}] and ${tensor.strings?.length ?? 0} strings.`);
    }
    for (const text of tensor.strings) writer.tag(field.tensorFields.stringData, delimited).string(text);
    return writer.finish();
  }
  const expected = byteLength(tensor.type, count);
  const received = reference ? reference.length : tensor.data.length;
  if (received !== expected) {
    throw invalid(
      `tensor "${name}" is ${tensor.type} [${tensor.dims}]: expected ${expected} bytes, received ${received}.`,
    );
  }
  if (reference) {
    const { location, offset, length } = reference;
    for (const [key, value] of Object.entries({ location, offset: `${offset}`, length: `${length}` })) {
      writeEntry(writer, field.tensorFields.externalData, key, value);
    }
    writer.tag(field.tensorFields.dataLocation, WireType.Varint).int32(field.externalLocation);
  } else {
    if (expected > largestMessage) throw tooLarge(`tensor "${name}"`, expected);
    writer.tag(field.tensorFields.rawData, delimited).uint32(expected);
  }
  return writer.finish();
}

export const tooLarge = (what: string, bytes: number): PeftError =>
  new PeftError("ONNX_LIMIT", `expected at most ${largestMessage} bytes in one ONNX file, ${what} takes ${bytes}.`, {
    hint: 'Write it with externalData: "auto".',
  });

function tensorParts(name: string, tensor: TensorData, context: EncodeContext): Part[] {
  const reference = tensor.type === "string" ? null : context.reference(tensor, name);
  const head = tensorHead(name, tensor, reference);
  return reference || tensor.type === "string" ? [head] : [head, tensor.data];
}

function writeTensor(writer: BinaryWriter, number: number, tensor: TensorData, context: EncodeContext): void {
  writer
    .tag(number, delimited)
    .fork()
    .raw(tensorHead("", tensor, null));
  if (tensor.type !== "string") writer.raw(context.readBytes(tensor));
  writer.join();
}

/** Bytes of parts, files read where needed. */
export function joinParts(parts: readonly Part[], read: (range: FileRange) => Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    out.set(part instanceof Uint8Array ? part : read(part), position);
    position += part.length;
  }
  return out;
}

function writeGraphAttribute(writer: BinaryWriter, number: number, graph: Graph, context: EncodeContext): void {
  const parts = graphParts(graph, context);
  const read = (data: FileRange): Uint8Array => context.readBytes({ type: "uint8", dims: [data.length], data });
  writer.tag(number, delimited).bytes(joinParts(parts, read));
}

const asBytes = (value: string | Uint8Array): Uint8Array =>
  typeof value === "string" ? new TextEncoder().encode(value) : value;

function writeAttribute(
  writer: BinaryWriter,
  name: string,
  value: Attribute,
  where: string,
  context: EncodeContext,
): void {
  const f = field.attributeFields;
  writer.tag(field.nodeFields.attribute, delimited).fork();
  writer.tag(f.name, delimited).string(name);
  switch (value.type) {
    case "float":
      writeFloat(writer.tag(f.float, WireType.Bit32), value.value, where);
      break;
    case "int":
      writeInt(writer.tag(f.int, WireType.Varint), value.value, where);
      break;
    case "string":
      writer.tag(f.string, delimited).bytes(asBytes(value.value));
      break;
    case "tensor":
      writeTensor(writer, f.tensor, value.value, context);
      break;
    case "graph":
      writeGraphAttribute(writer, f.graph, value.value, context);
      break;
    case "floats":
      writer.tag(f.floats, delimited).fork();
      for (const item of value.value) writeFloat(writer, item, where);
      writer.join();
      break;
    case "ints":
      writer.tag(f.ints, delimited).fork();
      for (const item of value.value) writeInt(writer, item, where);
      writer.join();
      break;
    case "strings":
      for (const item of value.value) writer.tag(f.strings, delimited).bytes(asBytes(item));
      break;
    case "tensors":
      for (const item of value.value) writeTensor(writer, f.tensors, item, context);
      break;
    case "graphs":
      for (const item of value.value) writeGraphAttribute(writer, f.graphs, item, context);
      break;
  }
  writer.tag(f.type, WireType.Varint).int32(field.attributeTypes[value.type]).join();
}

function writeNode(writer: BinaryWriter, node: Node, context: EncodeContext): void {
  const f = field.nodeFields;
  writer.tag(field.graphFields.node, delimited).fork();
  for (const input of node.inputs) writer.tag(f.input, delimited).string(input);
  for (const output of node.outputs) writer.tag(f.output, delimited).string(output);
  writeText(writer, f.name, node.name);
  writer.tag(f.opType, delimited).string(node.op);
  writeText(writer, f.domain, node.domain);
  for (const [name, value] of Object.entries(node.attributes)) {
    writeAttribute(writer, name, value, `attribute "${name}" of ${node.op} "${node.name}"`, context);
  }
  for (const [key, value] of Object.entries(node.metadata)) writeEntry(writer, f.metadata, key, value);
  writer.join();
}

function graphParts(graph: Graph, context: EncodeContext): Part[] {
  const f = field.graphFields;
  const parts: Part[] = [];
  const head = new BinaryWriter();
  for (const node of graph.nodes) writeNode(head, node, context);
  writeText(head, f.name, graph.name);
  for (const [name, tensor] of graph.initializers) {
    const inner = tensorParts(name, tensor, context);
    head.tag(f.initializer, delimited).uint32(inner.reduce((sum, part) => sum + part.length, 0));
    parts.push(head.finish(), ...inner);
  }
  for (const input of graph.inputs) writeValue(head, f.input, input.name, input);
  for (const output of graph.outputs) writeValue(head, f.output, output.name, output);
  const declared = new Set([...graph.inputs, ...graph.outputs].map(({ name }) => name));
  for (const [name, value] of graph.values) {
    if (!declared.has(name) && !graph.initializers.has(name)) writeValue(head, f.valueInfo, name, value);
  }
  parts.push(head.finish());
  return parts;
}

/**
 * A model as pieces of an ONNX file, in order; payloads of initialisers are pieces of their own and not copied.
 * @throws PeftError ONNX_INVALID, ONNX_LIMIT
 */
export function encodeParts(model: Model, context: EncodeContext): Part[] {
  const f = field.modelFields;
  const writer = new BinaryWriter();
  writer.tag(f.irVersion, WireType.Varint).int64(model.irVersion);
  writeText(writer, f.producerName, model.producer.name);
  writeText(writer, f.producerVersion, model.producer.version);
  for (const [domain, version] of model.opsets) {
    writer.tag(f.opsetImport, delimited).fork();
    writeText(writer, field.opsetFields.domain, domain);
    writer.tag(field.opsetFields.version, WireType.Varint).int64(version).join();
  }
  for (const [key, value] of model.metadata) writeEntry(writer, f.metadata, key, value);
  const graph = graphParts(model.graph, context);
  const length = graph.reduce((sum, part) => sum + part.length, 0);
  if (length > largestMessage) throw tooLarge(`graph "${model.graph.name}"`, length);
  writer.tag(f.graph, delimited).uint32(length);
  return [writer.finish(), ...graph];
}
