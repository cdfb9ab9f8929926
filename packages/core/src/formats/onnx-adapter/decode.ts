import { byteLength } from "../../onnx/element-type.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { decodeUtf8 } from "../strict-json.ts";
import { FlatReader, type FlatTable } from "./flat-reader.ts";
import * as layout from "./layout.ts";

const { adapterSlots, parameterSlots } = layout;
const { invalid } = FlatReader;

/** The content of an adapter file. */
export interface OnnxAdapter {
  readonly formatVersion: number;
  readonly adapterVersion: number;
  readonly modelVersion: number;
  /** In the order of the file; data are views of the given bytes, not always aligned to their type. */
  readonly parameters: Map<string, TensorData>;
}

function readDims(reader: FlatReader, table: FlatTable, what: string): number[] {
  const vector = reader.vector(table, parameterSlots.dims, 8, `the shape of ${what}`);
  // ONNX Runtime refuses scalars too; older versions read the list without asking whether it is there.
  if (!vector || vector.length === 0) throw invalid(`${what} has no shape`);
  if (vector.length > layout.maxRank)
    throw invalid(`${what} has ${vector.length} axes, the limit is ${layout.maxRank}`);
  return Array.from({ length: vector.length }, (_, i) => {
    const dim = Number(reader.int64(vector, i));
    if (!Number.isSafeInteger(dim) || dim < 0) throw invalid(`${what} has an axis of size ${reader.int64(vector, i)}`);
    return dim;
  });
}

/**
 * Elements of a shape; every file is below 2 GB, so more elements than bytes is an error in any case. Axes of size 0 do not
 * excuse absurd ones beside them.
 */
function countOf(dims: readonly number[], what: string): number {
  let count = 1;
  for (const dim of dims) {
    count *= Math.max(1, dim);
    if (count > layout.maxFileBytes) throw invalid(`${what} of shape [${dims}] is larger than the file`);
  }
  return dims.includes(0) ? 0 : count;
}

function readParameter(reader: FlatReader, table: FlatTable, index: number): [string, TensorData] {
  const nameVector = reader.vector(table, parameterSlots.name, 1, `the name of parameter ${index}`);
  if (!nameVector || nameVector.length === 0 || nameVector.length > layout.maxNameBytes) {
    throw invalid(`parameter ${index} has a name of ${nameVector?.length ?? 0} bytes`);
  }
  const name = decodeUtf8(reader.bytesOf(nameVector), `the name of parameter ${index}`, "ONNX_ADAPTER_INVALID");
  const what = `parameter ${JSON.stringify(name.slice(0, 200))}`;
  const code = reader.int32(table, parameterSlots.dataType, `the type of ${what}`);
  const type = layout.typeOfCode(code);
  if (!type) throw invalid(`${what} has type number ${code}, which is not allowed`);
  const dims = readDims(reader, table, what);
  const raw = reader.vector(table, parameterSlots.rawData, 1, `the data of ${what}`);
  if (!raw) throw invalid(`${what} has no data`);
  const expected = byteLength(type, countOf(dims, what));
  if (raw.length !== expected) {
    throw invalid(`${what} takes ${expected} bytes for ${type} [${dims}] and has ${raw.length}`);
  }
  return [name, { type, dims, data: reader.bytesOf(raw) }];
}

/**
 * Reads an adapter file of ONNX Runtime. Every offset, length, type and shape is checked. Data need not be aligned: files
 * written by ONNX Runtime itself are only aligned to 4, against their schema.
 *
 * @throws PeftError ONNX_ADAPTER_INVALID
 * @example
 * decodeOnnxAdapter(encodeOnnxAdapter(parameters)).parameters.get("q.lora_A")?.dims; // [2, 2]
 */
export function decodeOnnxAdapter(bytes: Uint8Array): OnnxAdapter {
  if (bytes.length > layout.maxFileBytes) throw invalid(`it has ${bytes.length} bytes`);
  const reader = new FlatReader(bytes);
  const identifier = reader.identifier();
  if (identifier !== layout.fileIdentifier) {
    throw invalid(`bytes 4 to 8 are ${JSON.stringify(identifier)} instead of "${layout.fileIdentifier}"`);
  }
  const root = reader.root();
  const formatVersion = reader.int32(root, adapterSlots.formatVersion, "format_version");
  if (formatVersion !== layout.formatVersion) {
    throw invalid(`its format version is ${formatVersion}, known is ${layout.formatVersion}`);
  }
  const list = reader.vector(root, adapterSlots.parameters, 4, "the list of parameters");
  const count = list?.length ?? 0;
  if (count > layout.maxParameters) throw invalid(`it has ${count} parameters, the limit is ${layout.maxParameters}`);
  const parameters = new Map<string, TensorData>();
  for (let i = 0; list && i < count; i++) {
    const [name, tensor] = readParameter(reader, reader.tableOf(list, i, `parameter ${i}`), i);
    if (parameters.has(name)) throw invalid(`parameter ${JSON.stringify(name.slice(0, 200))} is given twice`);
    parameters.set(name, tensor);
  }
  return {
    formatVersion,
    adapterVersion: reader.int32(root, adapterSlots.adapterVersion, "adapter_version"),
    modelVersion: reader.int32(root, adapterSlots.modelVersion, "model_version"),
    parameters,
  };
}
