import type { Dim, Shape } from "./ir.ts";

/**
 * Arithmetic on dimensions. A symbolic dimension is a polynomial with integer coefficients over atoms, written in one
 * canonical form ("2*batch*sequence+batch+-1"), so that equal sizes compare equal as strings. An atom is a name or
 * something in square brackets that no rule looks into: a quotient "[sequence//2]", the size that different symbols
 * broadcast to, "[rows|sequence]", or an expression too long to follow, "[~1k3v9q]".
 */
type Polynomial = Map<string, number>; // monomial (atoms joined by "*", sorted; "" for the constant) -> coefficient

const cache = new Map<string, Polynomial>();
const CACHE_LIMIT = 20_000;

function splitTopLevel(text: string, separator: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === "[") depth++;
    else if (char === "]") depth--;
    else if (char === separator && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/**
 * Expressions beyond these sizes become one opaque atom. Real ones have some ten terms and 100 characters; a file of 40
 * multiplications could otherwise ask for one of 2^40 characters.
 */
const maxTerms = 64;
const maxCharacters = 1024;

/** An atom that stands for an expression: equal expressions give equal atoms (53 bits of hash). */
function opaque(text: string): string {
  let [a, b] = [0x811c9dc5, 0x9e3779b9];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 0x01000193);
    b = Math.imul(b ^ code, 0x85ebca6b);
  }
  return `[~${((b & 0x1fffff) * 2 ** 32 + (a >>> 0)).toString(36)}]`;
}

const shortened = (text: string): string => (text.length > maxCharacters ? opaque(text) : text);

function parse(dim: Dim): Polynomial {
  if (typeof dim === "number") return new Map(dim === 0 ? [] : [["", dim]]);
  const known = cache.get(dim);
  if (known) return known;
  const result: Polynomial = new Map();
  for (const term of splitTopLevel(dim, "+")) {
    let coefficient = 1;
    const atoms: string[] = [];
    for (const factor of splitTopLevel(term, "*")) {
      if (/^-?\d+$/.test(factor)) coefficient *= Number(factor);
      else atoms.push(factor);
    }
    const key = atoms.sort().join("*");
    result.set(key, (result.get(key) ?? 0) + coefficient);
  }
  if (cache.size >= CACHE_LIMIT) cache.clear();
  cache.set(dim, result);
  return result;
}

function format(polynomial: Polynomial): Dim {
  const terms = [...polynomial].filter(([, c]) => c !== 0).sort(([a], [b]) => (a < b ? 1 : a > b ? -1 : 0));
  if (terms.length === 0) return 0;
  const [only] = terms;
  if (terms.length === 1 && only && only[0] === "") return only[1];
  const text = terms.map(([key, c]) => (key === "" ? `${c}` : c === 1 ? key : `${c}*${key}`)).join("+");
  return terms.length > maxTerms || terms.some(([, c]) => !Number.isSafeInteger(c)) ? opaque(text) : shortened(text);
}

/** A file's dimension name as an atom: characters that this module gives a meaning to are replaced. */
export const symbolFrom = (name: string): string => {
  const clean = name.replace(/[^\p{L}\p{N}_.?:]/gu, "_");
  return /^-?\d+$/.test(clean) ? `d${clean}` : clean;
};

export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a + b;
  const sum = new Map(parse(a));
  for (const [key, c] of parse(b)) sum.set(key, (sum.get(key) ?? 0) + c);
  return format(sum);
}

export const subDims = (a: Dim, b: Dim): Dim => addDims(a, mulDims(b, -1));

export function mulDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a * b;
  if (a === 1) return b;
  if (b === 1) return a;
  const [left, right] = [parse(a), parse(b)];
  if (left.size * right.size > maxTerms * maxTerms) return opaque([String(a), String(b)].sort().join("*"));
  const product: Polynomial = new Map();
  for (const [ka, ca] of left) {
    for (const [kb, cb] of right) {
      const atoms = [...(ka ? splitTopLevel(ka, "*") : []), ...(kb ? splitTopLevel(kb, "*") : [])].sort();
      const key = atoms.join("*");
      product.set(key, (product.get(key) ?? 0) + ca * cb);
    }
  }
  return format(product);
}

/** a / b when it divides exactly for every value of the symbols, else null. */
export function divideExactly(a: Dim, b: Dim): Dim | null {
  if (b === 0) return null;
  if (a === b) return 1;
  const divisor = [...parse(b)];
  const [only] = divisor;
  if (!only) return null;
  if (divisor.length > 1) return divideBySum(a, divisor);
  const [divisorKey, divisorCoefficient] = only;
  const quotient: Polynomial = new Map();
  for (const [key, coefficient] of parse(a)) {
    if (coefficient % divisorCoefficient !== 0) return null;
    const atoms = key ? splitTopLevel(key, "*") : [];
    for (const atom of divisorKey ? splitTopLevel(divisorKey, "*") : []) {
      const at = atoms.indexOf(atom);
      if (at < 0) return null;
      atoms.splice(at, 1);
    }
    quotient.set(atoms.join("*"), coefficient / divisorCoefficient);
  }
  return format(quotient);
}

/** Monomials by degree, then by the exponents of their atoms in alphabetical order: the greatest first. */
function byDegree([a]: readonly [string, number], [b]: readonly [string, number]): number {
  const [x, y] = [a, b].map((key) => (key ? splitTopLevel(key, "*") : [])) as [string[], string[]];
  if (x.length !== y.length) return y.length - x.length;
  const i = x.findIndex((atom, k) => atom !== y[k]);
  return i < 0 ? 0 : (x[i] as string) < (y[i] as string) ? -1 : 1;
}

/** a / (sum of several terms) by long division: exact when every leading term divides. */
function divideBySum(a: Dim, divisor: readonly (readonly [string, number])[]): Dim | null {
  const [lead] = [...divisor].sort(byDegree);
  const whole = format(new Map(divisor));
  let [rest, quotient]: [Dim, Dim] = [a, 0];
  for (let step = 0; step < maxTerms && rest !== 0; step++) {
    const [first] = [...parse(rest)].sort(byDegree);
    const term = first && lead ? divideExactly(format(new Map([first])), format(new Map([lead]))) : null;
    if (term === null) return null;
    quotient = addDims(quotient, term);
    rest = subDims(rest, mulDims(term, whole));
  }
  return rest === 0 ? quotient : null;
}

/** Integer division rounding down; symbolic results that do not divide exactly become one opaque atom. */
export function floorDivide(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return Math.floor(a / b);
  return divideExactly(a, b) ?? shortened(`[${a}//${b}]`);
}

/** Product of all dimensions (1 for a scalar). */
export const sizeOf = (shape: Shape): Dim => shape.reduce<Dim>((product, dim) => mulDims(product, dim), 1);

export const isStatic = (shape: Shape): shape is readonly number[] => shape.every((dim) => typeof dim === "number");

/** The atoms (names) that a dimension is made of. */
export function atomsOf(dim: Dim): string[] {
  if (typeof dim === "number") return [];
  return [...new Set([...parse(dim).keys()].flatMap((key) => (key ? splitTopLevel(key, "*") : [])))];
}

/** Terms of a dimension as coefficient and atoms, for code that computes it at run time. */
export const termsOf = (dim: Dim): { coefficient: number; atoms: string[] }[] =>
  [...parse(dim)].map(([key, coefficient]) => ({ coefficient, atoms: key ? splitTopLevel(key, "*") : [] }));

/** Value of a dimension when its symbols have the given sizes; null when one of them is not given. */
export function evaluateDim(dim: Dim, sizes: ReadonlyMap<string, number>): number | null {
  if (typeof dim === "number") return dim;
  let sum = 0;
  for (const { coefficient, atoms } of termsOf(dim)) {
    let term = coefficient;
    for (const atom of atoms) {
      const size = sizes.get(atom) ?? evaluateBroadcast(atom, sizes) ?? evaluateQuotient(atom, sizes);
      if (size === null) return null;
      term *= size;
    }
    sum += term;
  }
  return sum;
}

const asDim = (text: string): Dim => (/^-?\d+$/.test(text) ? Number(text) : text);

function evaluateBroadcast(atom: string, sizes: ReadonlyMap<string, number>): number | null {
  const parts = broadcastParts(atom);
  if (parts.length === 1) return null;
  const values = parts.map((part) => evaluateDim(asDim(part), sizes));
  return values.includes(null) ? null : (values.find((v) => v !== 1) ?? 1);
}

/** Numerator and denominator of "[a//b]"; null for any other atom. */
export function quotientParts(atom: string): readonly [Dim, Dim] | null {
  if (!atom.startsWith("[") || !atom.endsWith("]")) return null;
  let depth = 0;
  for (let i = 1; i < atom.length - 1; i++) {
    if (atom[i] === "[") depth++;
    else if (atom[i] === "]") depth--;
    else if (depth === 0 && atom.startsWith("//", i)) return [asDim(atom.slice(1, i)), asDim(atom.slice(i + 2, -1))];
  }
  return null;
}

function evaluateQuotient(atom: string, sizes: ReadonlyMap<string, number>): number | null {
  const parts = quotientParts(atom);
  if (!parts) return null;
  const [a, b] = [evaluateDim(parts[0], sizes), evaluateDim(parts[1], sizes)];
  return a === null || b === null || b === 0 ? null : Math.floor(a / b);
}

/** True where no sizes of its symbols make a dimension, or a number computed from some, negative. */
export function isNeverNegative(dim: Dim): boolean {
  if (typeof dim === "number") return dim >= 0;
  return termsOf(dim).every(({ coefficient, atoms }) => coefficient >= 0 && atoms.every(isSize));
}

/** True for names and what sizes are divided or broadcast to; an expression too long to follow may be anything. */
function isSize(atom: string): boolean {
  const quotient = quotientParts(atom);
  return quotient ? quotient.every(isNeverNegative) : !atom.startsWith("[~");
}

/** True for symbols that inference invented because nothing was known. */
export const isInvented = (dim: Dim): boolean => typeof dim === "string" && dim.startsWith("?");

/** The sizes that "[a|b]" stands for; any other symbol stands for itself. */
function broadcastParts(dim: string): string[] {
  if (!dim.startsWith("[") || atomsOf(dim)[0] !== dim) return [dim];
  const parts = splitTopLevel(dim.slice(1, -1), "|");
  return parts.length > 1 ? parts : [dim];
}

/**
 * Dimension of an element-wise result. Different symbols may be equal or 1 at run time: their result is a symbol of its
 * own, "[a|b]". A name from the file wins over an invented one; `null` says that nothing is known.
 */
export function broadcastDim(a: Dim, b: Dim): Dim | null {
  if (a === b) return a;
  if (a === 1) return b;
  if (b === 1) return a;
  if (typeof a === "number") return typeof b === "number" ? null : a;
  if (typeof b === "number") return b;
  if (isInvented(a) || isInvented(b)) return isInvented(a) === isInvented(b) ? null : isInvented(a) ? b : a;
  return shortened(`[${[...new Set([...broadcastParts(a), ...broadcastParts(b)])].sort().join("|")}]`);
}
