import { atomicWrite } from "../../checkpoint/atomic-write.ts";
import { PeftError } from "../../errors.ts";
import { byteLength } from "../../onnx/element-type.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { elementCount, readFileRange, readTensorBytes } from "../../onnx/tensor.ts";
import { dtypeOf, type SafetensorsDtype } from "./dtypes.ts";
import { maxHeaderBytes } from "./header.ts";

/** Bytes of a tensor that lies in another file and is copied: few enough to hold, enough to be fast. */
const copyBytes = 8 * 2 ** 20;
const loneSurrogate = /\p{Surrogate}/u;

interface Planned {
  readonly name: string;
  readonly tensor: TensorData;
  readonly dtype: SafetensorsDtype;
  readonly rank: number;
  readonly bytes: number;
}

function plan(name: string, tensor: TensorData): Planned {
  const fail = (problem: string): never => {
    throw new PeftError("SAFETENSORS_UNWRITABLE", `tensor ${JSON.stringify(name.slice(0, 200))}: ${problem}.`);
  };
  if (name === "" || name === "__metadata__" || loneSurrogate.test(name)) fail("this name cannot be stored");
  const stored = dtypeOf(tensor.type) ?? fail(`type ${tensor.type} does not exist in safetensors`);
  const bytes = byteLength(tensor.type, elementCount(tensor.dims, name));
  if (bytes !== tensor.data.length) {
    fail(`expected ${bytes} bytes for ${tensor.type} [${tensor.dims}], received ${tensor.data.length}`);
  }
  return { name, tensor, ...stored, bytes };
}

/** Strings in the order of their UTF-8 bytes, as the reference implementation compares them. */
const byUtf8 = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

function layOut(
  tensors: Iterable<readonly [string, TensorData]>,
  metadata: Readonly<Record<string, string>>,
): { start: Uint8Array; planned: Planned[] } {
  const planned = Array.from(tensors, ([name, tensor]) => plan(name, tensor));
  planned.sort((a, b) => a.rank - b.rank || byUtf8(a.name, b.name));
  const fields: string[] = [];
  const texts = Object.entries(metadata).sort(([a], [b]) => byUtf8(a, b));
  if (texts.length > 0) {
    const pairs = texts.map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`);
    fields.push(`"__metadata__":{${pairs.join(",")}}`);
  }
  const names = new Set<string>();
  let offset = 0;
  for (const { name, tensor, dtype, bytes } of planned) {
    if (names.has(name))
      throw new PeftError("SAFETENSORS_UNWRITABLE", `tensor ${JSON.stringify(name)} is given twice.`);
    names.add(name);
    const end = offset + bytes;
    fields.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${tensor.dims}],"data_offsets":[${offset},${end}]}`,
    );
    offset = end;
  }
  const text = Buffer.from(`{${fields.join(",")}}`);
  // Spaces up to a multiple of 8 keep the data aligned for every type.
  const length = Math.ceil(text.length / 8) * 8;
  if (length > maxHeaderBytes) {
    throw new PeftError(
      "SAFETENSORS_UNWRITABLE",
      `the header would have ${length} bytes, the limit is ${maxHeaderBytes}.`,
    );
  }
  const start = new Uint8Array(8 + length).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(length), true);
  start.set(text, 8);
  return { start, planned };
}

/**
 * A safetensors file in memory: header padded with spaces to 8 bytes, tensors by width of their type and then by name,
 * metadata by key, so equal content gives equal bytes. Copies every tensor once.
 *
 * @throws PeftError SAFETENSORS_UNWRITABLE (name twice, bytes that do not fit the shape, a type the format lacks);
 *   FILE_RANGE when a tensor's file cannot be read
 * @example
 * encodeSafetensors([["a", tensorFrom("float32", [2], [1, 2])]], { format: "pt" }).length; // 112
 */
export function encodeSafetensors(
  tensors: Iterable<readonly [string, TensorData]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { start, planned } = layOut(tensors, metadata);
  const out = new Uint8Array(planned.reduce((sum, { bytes }) => sum + bytes, start.length));
  out.set(start);
  let offset = start.length;
  for (const { tensor, bytes } of planned) {
    out.set(readTensorBytes(tensor), offset);
    offset += bytes;
  }
  return out;
}

function* pieces(start: Uint8Array, planned: readonly Planned[]): Generator<Uint8Array> {
  yield start;
  for (const { tensor } of planned) {
    const { data } = tensor;
    if (data instanceof Uint8Array) yield data;
    else {
      for (let done = 0; done < data.length; done += copyBytes) {
        const length = Math.min(copyBytes, data.length - done);
        yield readFileRange({ path: data.path, offset: data.offset + done, length });
      }
    }
  }
}

/**
 * Writes a safetensors file with {@link atomicWrite}. Tensors that lie in files are copied 8 MB at a time.
 *
 * @throws PeftError SAFETENSORS_UNWRITABLE, FILE_RANGE, WRITE_FAILED; the old file is then untouched
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, TensorData]>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { start, planned } = layOut(tensors, metadata);
  await atomicWrite(path, pieces(start, planned));
}
