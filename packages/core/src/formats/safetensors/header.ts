import { PeftError } from "../../errors.ts";
import { byteLength, type ElementType } from "../../onnx/element-type.ts";
import { decodeUtf8, parseStrictJson, type StrictJson } from "../strict-json.ts";
import { dtypeNames, elementTypeOfDtype } from "./dtypes.ts";

/** Largest header, as in the reference implementation. A model of 100,000 tensors has one of about 12 MB. */
export const maxHeaderBytes = 100_000_000;
/** More axes than any tensor has; keeps shapes from being used to fill memory. */
const maxRank = 64;
const maxNameLength = 4096;
/** Problems listed in one error; a damaged file may have one per tensor. */
const maxProblems = 20;

/** A tensor as the header describes it; `begin` and `end` count from the end of the header. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  /** In the order of their bytes. */
  readonly entries: readonly SafetensorsEntry[];
  readonly metadata: Record<string, string>;
}

export const invalid = (where: string, problem: string): PeftError =>
  new PeftError("SAFETENSORS_INVALID", `${where} is not a valid safetensors file: ${problem}.`);

/**
 * Length of the JSON header out of the first 8 bytes, checked against the file before anything is allocated.
 * @throws PeftError SAFETENSORS_INVALID; PICKLE_REFUSED when the file is a zip archive or a pickle under another name
 */
export function headerLength(start: Uint8Array, fileBytes: number, where: string): number {
  if (start.length < 8) throw invalid(where, `expected at least 8 bytes, received ${fileBytes}`);
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  const limit = Math.min(maxHeaderBytes, fileBytes - 8);
  if (length <= BigInt(limit) && length >= 2n) return Number(length);
  refusePickle(start, where);
  throw invalid(where, `expected a header of 2 to ${limit} bytes, its length says ${length}`);
}

/** PyTorch files are zip archives ("PK") or, older, bare pickles (protocol byte 0x80 and a version). */
function refusePickle(start: Uint8Array, where: string): void {
  const zip = start[0] === 0x50 && start[1] === 0x4b;
  const pickle = start[0] === 0x80 && (start[1] ?? 99) <= 5;
  if (!zip && !pickle) return;
  throw new PeftError("PICKLE_REFUSED", `${where} is a PyTorch pickle, not a safetensors file.`, {
    hint: "Pickles can run code. Convert it with safetensors.torch.save_file in Python, where you trust its source.",
  });
}

/** Product of a shape in bytes, or null when it is no safe integer; axes of size 0 do not excuse absurd ones beside them. */
function bytesOfShape(type: ElementType, dims: readonly number[]): number | null {
  let count = 1;
  for (const dim of dims) {
    count *= Math.max(1, dim);
    if (!Number.isSafeInteger(count)) return null;
  }
  const bytes = byteLength(type, count);
  if (!Number.isSafeInteger(bytes)) return null;
  return dims.includes(0) ? 0 : bytes;
}

function wholeNumbers(json: StrictJson | undefined, maxLength: number): number[] | null {
  if (!Array.isArray(json) || json.length > maxLength) return null;
  return json.every((item) => typeof item === "number" && Number.isSafeInteger(item)) ? (json as number[]) : null;
}

function readEntry(name: string, json: StrictJson, problem: (text: string) => void): SafetensorsEntry | null {
  const at = JSON.stringify(name.slice(0, 200));
  if (name.length === 0 || name.length > maxNameLength) problem(`a tensor name has ${name.length} characters`);
  if (!(json instanceof Map)) return problem(`${at}: expected an object`) ?? null;
  for (const key of json.keys()) {
    if (key !== "dtype" && key !== "shape" && key !== "data_offsets") {
      problem(`${at}: unknown field ${JSON.stringify(key.slice(0, 200))}`);
    }
  }
  const dtype = json.get("dtype");
  const type = typeof dtype === "string" ? elementTypeOfDtype(dtype) : undefined;
  const dims = wholeNumbers(json.get("shape"), maxRank);
  const [begin, end, ...rest] = wholeNumbers(json.get("data_offsets"), 2) ?? [];
  if (!type) {
    problem(`${at}: expected a dtype of ${dtypeNames.join(", ")}, received ${String(dtype).slice(0, 40)}`);
  }
  if (!dims) problem(`${at}: expected a shape of at most ${maxRank} whole numbers`);
  if (begin === undefined || end === undefined || rest.length > 0 || end < begin) {
    problem(`${at}: expected data_offsets [begin, end]`);
    return null;
  }
  if (!type || !dims) return null;
  const bytes = bytesOfShape(type, dims);
  if (bytes === null) problem(`${at}: shape [${dims}] is too large`);
  else if (bytes !== end - begin) {
    problem(`${at}: ${dtype} [${dims}] takes ${bytes} bytes, its offsets [${begin}, ${end}] hold ${end - begin}`);
  }
  return { name, type, dims, begin, end };
}

/** Every byte after the header belongs to exactly one tensor: no gap in which to hide data, no overlap. */
function checkCover(sorted: readonly SafetensorsEntry[], dataBytes: number, problem: (text: string) => void): void {
  let covered = 0;
  for (const { name, begin, end } of sorted) {
    if (begin !== covered) {
      const kind = begin < covered ? "overlaps the tensor before it" : "leaves a gap before it";
      problem(`${JSON.stringify(name.slice(0, 200))}: begins at ${begin} and ${kind}, which ends at ${covered}`);
    }
    covered = end;
  }
  if (covered !== dataBytes)
    problem(`tensors end at byte ${covered} of the data, the file has ${dataBytes} bytes of it`);
}

/**
 * Parses and checks a header. `dataBytes` is what the file has after it.
 *
 * @throws PeftError SAFETENSORS_INVALID, listing up to 20 problems.
 */
export function parseHeader(bytes: Uint8Array, dataBytes: number, where: string): SafetensorsHeader {
  if (bytes[0] !== 0x7b) throw invalid(where, 'expected a header that begins with "{"');
  const name = `the header of ${where}`;
  const text = decodeUtf8(bytes, name, "SAFETENSORS_INVALID");
  const json = parseStrictJson(text, { where: name, code: "SAFETENSORS_INVALID", maxDepth: 3, wholeNumbersOnly: true });
  if (!(json instanceof Map)) throw invalid(where, "expected an object in the header");

  const problems: string[] = [];
  let count = 0;
  const problem = (text: string): void => {
    if (++count <= maxProblems) problems.push(text);
  };
  const entries: SafetensorsEntry[] = [];
  const metadata: [string, string][] = [];
  for (const [key, value] of json) {
    if (key !== "__metadata__") {
      const entry = readEntry(key, value, problem);
      if (entry) entries.push(entry);
    } else if (value instanceof Map) {
      for (const [field, text] of value) {
        if (typeof text === "string") metadata.push([field, text]);
        else problem(`metadata ${JSON.stringify(field.slice(0, 200))}: expected a text`);
      }
    } else problem("__metadata__: expected an object");
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  if (count === 0) checkCover(entries, dataBytes, problem);
  if (count > maxProblems) problems.push(`and ${count - maxProblems} more`);
  if (count > 0) throw invalid(where, problems.join("; "));
  return { entries, metadata: Object.fromEntries(metadata) };
}
