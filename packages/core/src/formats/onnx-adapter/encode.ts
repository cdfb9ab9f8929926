import { Builder } from "flatbuffers";
import { PeftError } from "../../errors.ts";
import { byteLength } from "../../onnx/element-type.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { elementCount, readTensorBytes } from "../../onnx/tensor.ts";
import * as layout from "./layout.ts";

const { adapterSlots, parameterSlots } = layout;

const unwritable = (problem: string): PeftError => new PeftError("ONNX_ADAPTER_UNWRITABLE", `${problem}.`);
const loneSurrogate = /\p{Surrogate}/u;
const isInt32 = (value: number): boolean => Number.isInteger(value) && value === (value | 0);

function checkParameter(name: string, { type, dims, data }: TensorData): number {
  const where = `parameter ${JSON.stringify(name.slice(0, 200))}`;
  const nameBytes = Buffer.byteLength(name);
  if (nameBytes === 0 || nameBytes > layout.maxNameBytes || loneSurrogate.test(name)) {
    throw unwritable(`expected a name of 1 to ${layout.maxNameBytes} bytes, received ${where}`);
  }
  const code = layout.codeOfType(type);
  if (code === undefined) throw unwritable(`${where} has type ${type}, which adapter files do not hold`);
  if (dims.length === 0) throw unwritable(`${where} is a scalar, which ONNX Runtime refuses; give it the shape [1]`);
  if (dims.length > layout.maxRank)
    throw unwritable(`${where} has ${dims.length} axes, the limit is ${layout.maxRank}`);
  const expected = byteLength(type, elementCount(dims, where));
  if (expected !== data.length) {
    throw unwritable(`${where}: expected ${expected} bytes for ${type} [${dims}], received ${data.length}`);
  }
  return code;
}

/** What one parameter takes besides its data: two tables' worth of fields, lengths, dims, padding; generous. */
const overhead = (name: string, { dims }: TensorData): number => 128 + Buffer.byteLength(name) + 8 * dims.length;

/** Flatbuffers are written from their end to their start, so items go in backwards. */
function writeParameter(builder: Builder, name: string, code: number, tensor: TensorData): number {
  const data = readTensorBytes(tensor);
  builder.prep(8, data.length); // the schema aligns raw_data to 8, so that it can be used where it lies
  const rawData = builder.createByteVector(data);
  builder.startVector(8, tensor.dims.length, 8);
  for (let i = tensor.dims.length - 1; i >= 0; i--) builder.addInt64(BigInt(tensor.dims[i] as number));
  const dims = builder.endVector();
  const text = builder.createString(name);
  builder.startObject(4);
  builder.addFieldOffset(parameterSlots.name, text, 0);
  builder.addFieldOffset(parameterSlots.dims, dims, 0);
  builder.addFieldInt32(parameterSlots.dataType, code, 0);
  builder.addFieldOffset(parameterSlots.rawData, rawData, 0);
  return builder.endObject();
}

/**
 * Tensors as ONNX Runtime's adapter file, which its `LoraAdapter` gives to a session whose inputs have these names.
 * Memory: twice the data for a moment.
 *
 * @param versions Numbers of the caller's own for this adapter and its model, 32-bit, default 1.
 * @throws PeftError ONNX_ADAPTER_UNWRITABLE; FILE_RANGE when a tensor's file cannot be read
 * @example
 * const bytes = encodeOnnxAdapter(new Map([["q.lora_A", tensorFrom("float32", [2, 2], [1, 2, 3, 4])]]));
 */
export function encodeOnnxAdapter(
  parameters: ReadonlyMap<string, TensorData>,
  versions: { readonly adapterVersion?: number; readonly modelVersion?: number } = {},
): Uint8Array {
  const { adapterVersion = 1, modelVersion = 1 } = versions;
  if (!isInt32(adapterVersion) || !isInt32(modelVersion)) {
    throw unwritable(`expected 32-bit versions, received ${adapterVersion} and ${modelVersion}`);
  }
  if (parameters.size > layout.maxParameters) {
    throw unwritable(`expected at most ${layout.maxParameters} parameters, received ${parameters.size}`);
  }
  let size = 256;
  const codes = new Map<string, number>();
  for (const [name, tensor] of parameters) {
    codes.set(name, checkParameter(name, tensor));
    size += overhead(name, tensor) + tensor.data.length;
  }
  if (size > layout.maxFileBytes) {
    throw unwritable(`the adapter takes ${size} bytes, a flatbuffer holds ${layout.maxFileBytes}`);
  }
  const builder = new Builder(size);
  const tables: number[] = [];
  for (const [name, tensor] of parameters) tables.push(writeParameter(builder, name, codes.get(name) ?? 0, tensor));
  builder.startVector(4, tables.length, 4);
  for (let i = tables.length - 1; i >= 0; i--) builder.addOffset(tables[i] as number);
  const list = builder.endVector();
  builder.startObject(4);
  builder.addFieldInt32(adapterSlots.formatVersion, layout.formatVersion, 0);
  builder.addFieldInt32(adapterSlots.adapterVersion, adapterVersion, 0);
  builder.addFieldInt32(adapterSlots.modelVersion, modelVersion, 0);
  builder.addFieldOffset(adapterSlots.parameters, list, 0);
  builder.finish(builder.endObject(), layout.fileIdentifier);
  return builder.asUint8Array().slice();
}
