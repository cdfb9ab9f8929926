import type { FuzzRandom } from "./fuzz-random.ts";
import { type Mutation, replaceBytes } from "./mutate-bytes.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("latin1");

const nastyJson = [
  "0",
  "-0",
  "-1",
  "1",
  "1.5",
  "1e3",
  "1e308",
  "1e999",
  "-1e999",
  "1e-400",
  "2147483647",
  "2147483648",
  "4294967296",
  "9007199254740991",
  "9007199254740993",
  "18446744073709551616",
  "1000000000",
  "NaN",
  "Infinity",
  "null",
  "true",
  "false",
  '""',
  '"x"',
  "[]",
  "{}",
  '"__proto__"',
  '"constructor"',
  '"toString"',
  '"../../etc/passwd"',
  '"\\ud83d"',
  '"\\u0000"',
  '"\u00e9"',
  "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]",
  '{"a":1,"a":2}',
  '{"__proto__":{"x":1}}',
  '"(a+)+b"',
  '"((a*)*)*b"',
  '".*.*.*.*.*.*x"',
  '"all-linear"',
  '"F32"',
  '"F64"',
  '"I64"',
  '"LORA"',
  '"LN_TUNING"',
  "[0,0]",
  "[0,4]",
  "[4,8]",
  "[1]",
  "[-1]",
  "[2,3]",
  "[4294967296,4294967296]",
  "[9007199254740991]",
];

/** Tokens of JSON, also of broken JSON: strings, numbers, words, single characters. */
const tokens = /"(?:[^"\\\n]|\\.)*"|-?\d[\d.eE+-]*|[A-Za-z]+|[^\s]/g;

interface Token {
  readonly start: number;
  readonly end: number;
}

function tokensOf(text: string): Token[] {
  const found: Token[] = [];
  for (const match of text.matchAll(tokens)) found.push({ start: match.index, end: match.index + match[0].length });
  return found;
}

/** The token, or the whole list or object that it opens. */
function spanAt(text: string, all: readonly Token[], index: number): Token {
  const first = all[index] as Token;
  if (!"[{".includes(text.charAt(first.start))) return first;
  let depth = 0;
  for (const token of all.slice(index)) {
    const char = text.charAt(token.start);
    if (char === "[" || char === "{") depth++;
    else if (char === "]" || char === "}") depth--;
    if (depth === 0) return { start: first.start, end: token.end };
  }
  return first;
}

/** One edit of a JSON text by its tokens: replaced, removed, doubled, swapped, nested. Works on the bytes as latin1. */
export function editJson(text: string, random: FuzzRandom): string {
  const all = tokensOf(text);
  if (all.length === 0) return text;
  const at = random.below(all.length);
  const span = spanAt(text, all, at);
  const piece = text.slice(span.start, span.end);
  const put = (content: string, { start, end }: Token = span): string =>
    text.slice(0, start) + content + text.slice(end);
  switch (random.below(8)) {
    case 0:
      return put("");
    case 1:
      return put(`${piece},${piece}`);
    case 2:
      return put(`[${piece}]`);
    case 3:
      return put(`${"[".repeat(1 + random.below(40))}${piece}${"]".repeat(random.below(40))}`);
    case 4: {
      const other = spanAt(text, all, random.below(all.length));
      return put(text.slice(other.start, other.end));
    }
    case 5: {
      // A member once more under the same key, with another value.
      const open = text.indexOf("{");
      return open < 0
        ? text
        : `${text.slice(0, open + 1)}${random.pick(nastyJson)}:${random.pick(nastyJson)},${text.slice(open + 1)}`;
    }
    case 6: {
      const digits = Number(piece);
      if (Number.isFinite(digits) && piece !== "") return put(String(digits + random.pick([-1, 1, 4, 8, -4])));
      return put(random.pick(nastyJson));
    }
    default:
      return put(random.pick(nastyJson));
  }
}

/** {@link editJson} on bytes. */
export const mutateJson: Mutation = (input, random) => {
  const out = Uint8Array.from(Buffer.from(editJson(decoder.decode(input), random), "latin1"));
  return out.length > 1 << 18 ? input : out;
};

const eight = (value: bigint): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return bytes;
};

/** Edits the JSON header of a safetensors file under a right (or, rarely, slightly wrong) header length. */
export const mutateSafetensors: Mutation = (input, random) => {
  if (input.length < 8) return input;
  const length = Number(new DataView(input.buffer, input.byteOffset).getBigUint64(0, true));
  if (length > input.length - 8) return input;
  let header = decoder.decode(input.subarray(8, 8 + length));
  for (let i = 1 + random.below(2); i > 0; i--) header = editJson(header, random);
  const bytes = Uint8Array.from(Buffer.from(header, "latin1"));
  const told = BigInt(bytes.length + (random.chance(0.05) ? random.below(5) - 2 : 0));
  return replaceBytes(replaceBytes(input, 8, 8 + length, bytes), 0, 8, eight(told));
};

/** Replaces, inserts or repeats words of a format's own vocabulary. */
export const mutateWithWords =
  (words: readonly string[]): Mutation =>
  (input, random) => {
    const start = random.below(input.length + 1);
    const end = random.chance(0.5) ? start : Math.min(input.length, start + 1 + random.below(6));
    const times = random.chance(0.9) ? 1 : 1 + random.below(50);
    return replaceBytes(input, start, end, encoder.encode(random.pick(words).repeat(times)));
  };
