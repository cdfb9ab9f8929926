import type { FuzzRandom } from "./fuzz-random.ts";
import { type Mutation, nastyNumbers, replaceBytes } from "./mutate-bytes.ts";

/** A field as it lies in the bytes: tag, length prefix if it has one, content. */
interface WireField {
  readonly number: number;
  readonly wire: number;
  readonly start: number;
  readonly content: number;
  readonly end: number;
  /** Index of the field that contains this one, -1 at the top. */
  readonly parent: number;
}

const deepest = 12;
const mostFields = 4000;

function varintAt(bytes: Uint8Array, at: number, end: number): { value: number; next: number } | null {
  let value = 0;
  for (let i = 0; i < 10 && at + i < end; i++) {
    const byte = bytes[at + i] as number;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, next: at + i + 1 };
  }
  return null;
}

function fieldAt(bytes: Uint8Array, at: number, end: number, parent: number): WireField | null {
  const tag = varintAt(bytes, at, end);
  if (!tag || tag.value < 8 || tag.value >= 2 ** 32) return null;
  const [number, wire] = [Math.floor(tag.value / 8), tag.value % 8];
  if (wire === 0) {
    const value = varintAt(bytes, tag.next, end);
    return value && { number, wire, start: at, content: tag.next, end: value.next, parent };
  }
  const length = wire === 2 ? varintAt(bytes, tag.next, end) : null;
  if (wire === 2 ? !length : wire !== 1 && wire !== 5) return null;
  const content = length ? length.next : tag.next;
  const stop = content + (length ? length.value : wire === 1 ? 8 : 4);
  return stop > end ? null : { number, wire, start: at, content, end: stop, parent };
}

/**
 * Every field of a message and, wherever the content of a field parses as a message too, of that one: a format's schema
 * is not needed to see its structure.
 */
export function wireFields(bytes: Uint8Array): WireField[] {
  const fields: WireField[] = [];
  const walk = (start: number, end: number, parent: number, depth: number): boolean => {
    const before = fields.length;
    for (let at = start; at < end; ) {
      const field = fields.length < mostFields ? fieldAt(bytes, at, end, parent) : null;
      if (!field) {
        fields.length = before;
        return false;
      }
      fields.push(field);
      if (field.wire === 2 && field.end > field.content && depth < deepest) {
        walk(field.content, field.end, fields.length - 1, depth + 1);
      }
      at = field.end;
    }
    return true;
  };
  walk(0, bytes.length, -1, 0);
  return fields;
}

/** A varint as it should be, or padded with empty groups. */
function varint(value: bigint, padding = 0): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  } while (rest > 0n);
  for (let i = 0; i < padding; i++) bytes.push(0x80);
  bytes.push((bytes.pop() ?? 0) & 0x7f);
  return Uint8Array.from(bytes);
}

/** Replaces bytes inside a message and corrects the lengths of all messages around them. */
function edit(
  bytes: Uint8Array,
  fields: readonly WireField[],
  inside: number,
  cut: [number, number],
  content: Uint8Array,
) {
  let out = replaceBytes(bytes, cut[0], cut[1], content);
  if (out === bytes) return bytes;
  let change = out.length - bytes.length;
  for (let i = inside; i >= 0; i = fields[i]?.parent ?? -1) {
    const field = fields[i];
    if (!field) break;
    const tag = varintAt(bytes, field.start, field.content);
    if (!tag) break;
    const prefix = varint(BigInt(field.end - field.content + change));
    out = replaceBytes(out, tag.next, field.content, prefix);
    change += prefix.length - (field.content - tag.next);
  }
  return out;
}

type FieldEdit = (bytes: Uint8Array, fields: readonly WireField[], index: number, random: FuzzRandom) => Uint8Array;

const whole = ({ start, end }: WireField): [number, number] => [start, end];
const at = (fields: readonly WireField[], index: number): WireField => fields[index] as WireField;

const drop: FieldEdit = (bytes, fields, index) =>
  edit(bytes, fields, at(fields, index).parent, whole(at(fields, index)), new Uint8Array(0));

const duplicate: FieldEdit = (bytes, fields, index, random) => {
  const { start, end, parent } = at(fields, index);
  const piece = bytes.slice(start, end);
  const times = random.chance(0.9) ? 1 : 1 + random.below(40);
  const content = new Uint8Array(piece.length * times);
  for (let i = 0; i < times; i++) content.set(piece, i * piece.length);
  return edit(bytes, fields, parent, [end, end], content);
};

/** Another number, another wire type, or both: what a field is for and how it is stored no longer agree. */
const retag: FieldEdit = (bytes, fields, index, random) => {
  const { number, wire, start, parent } = at(fields, index);
  const other = random.chance(0.7) ? random.below(27) : number;
  const tag = varintAt(bytes, start, bytes.length);
  const wires = random.chance(0.3) ? random.below(8) : wire;
  return tag ? edit(bytes, fields, parent, [start, tag.next], varint(BigInt(other * 8 + wires))) : bytes;
};

/** A varint, a packed list or fixed bits get another value; a text or message gets a lying length. */
const revalue: FieldEdit = (bytes, fields, index, random) => {
  const { wire, start, content, end, parent } = at(fields, index);
  const value = random.chance(0.5) ? random.pick(nastyNumbers) : BigInt(random.below(40));
  if (wire === 0) return edit(bytes, fields, parent, [content, end], varint(value, random.chance(0.1) ? 3 : 0));
  if (wire !== 2) {
    const raw = Uint8Array.from({ length: end - content }, () => random.pick([0, 0xff, 0x7f, 0x80, random.below(256)]));
    return edit(bytes, fields, parent, [content, end], raw);
  }
  if (random.chance(0.5)) return edit(bytes, fields, index, [content, end], varint(value));
  const tag = varintAt(bytes, start, content);
  const lie = random.chance(0.5) ? BigInt(Math.max(0, end - content + random.below(9) - 4)) : value;
  return tag ? replaceBytes(bytes, tag.next, content, varint(lie)) : bytes;
};

/** Content of one field becomes that of another: names collide, values point elsewhere, graphs contain their parents. */
const transplant: FieldEdit = (bytes, fields, index, random) => {
  const target = at(fields, index);
  const alike = fields.filter(
    ({ wire, number }) => wire === target.wire && (random.chance(0.3) || number === target.number),
  );
  if (alike.length === 0) return bytes;
  const donor = random.pick(alike);
  const content = bytes.slice(donor.content, donor.end);
  const inside = target.wire === 2 ? index : target.parent;
  return edit(bytes, fields, inside, [target.content, target.end], content);
};

/** Wraps a field's content in itself again and again: nesting. */
const nest: FieldEdit = (bytes, fields, index, random) => {
  const { number, wire, start, content, end, parent } = at(fields, index);
  if (wire !== 2) return bytes;
  let piece = bytes.slice(start, end);
  const head = [...varint(BigInt(number * 8 + 2))];
  for (let i = 1 + random.below(random.chance(0.1) ? 200 : 6); i > 0 && piece.length < 4096; i--) {
    piece = Uint8Array.from([...head, ...varint(BigInt(piece.length)), ...piece]);
  }
  return end > content ? edit(bytes, fields, parent, [start, end], piece) : bytes;
};

const texts = [
  "",
  "x",
  "y",
  "w",
  "__proto__",
  "constructor",
  "toString",
  "../w.bin",
  "/dev/zero",
  "w.bin",
  "a".repeat(300),
  "é\u0000",
  "...",
  "?x.0",
  "[a|b]",
  "2*n",
  "-1",
  "n+1",
  "ai.onnx",
  "local",
  "Constant",
  "Identity",
  "Reshape",
  "Range",
  "Expand",
  "Tile",
  "ConstantOfShape",
  "If",
  "Loop",
  "Split",
  "Einsum",
  "Gather",
];

/** A short text becomes another one: a name of the file, an operator, a path, a special word. */
const reword: FieldEdit = (bytes, fields, index, random) => {
  const { wire, content, end } = at(fields, index);
  if (wire !== 2 || end - content > 64) return bytes;
  return edit(bytes, fields, index, [content, end], new TextEncoder().encode(random.pick(texts)));
};

const edits: readonly FieldEdit[] = [
  drop,
  duplicate,
  retag,
  revalue,
  revalue,
  transplant,
  transplant,
  nest,
  reword,
  reword,
];

/** Damages fields of a protobuf message and keeps the lengths around them right, so that the damage is reached. */
export const mutateProtobuf: Mutation = (input, random) => {
  const fields = wireFields(input);
  if (fields.length === 0) return input;
  return random.pick(edits)(input, fields, random.below(fields.length), random);
};
