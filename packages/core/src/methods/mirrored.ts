import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";

/** How the entries of an axis pair off: `mirror[i]` is the partner of entry i, entries 0 .. half - 1 hold one of each pair. */
export interface Mirror {
  readonly partner: readonly number[];
  readonly half: number;
}

/** i and size - i, as in a Fourier transform: 0, and size / 2, are their own partners. */
export const mirrorAtZero = (size: number): Mirror => ({
  partner: Array.from({ length: size }, (_, i) => (size - i) % size),
  half: Math.floor(size / 2) + 1,
});

/** i and size - 1 - i, as in a cosine transform of even size. */
export const mirrorAtMiddle = (size: number): Mirror => ({
  partner: Array.from({ length: size }, (_, i) => size - 1 - i),
  half: size / 2,
});

/**
 * Sums and differences of partners along the last axis, [..., half] each: products with tables whose rows are even or odd about
 * the mirror take half of x and half of the table.
 */
export function fold(g: Builder, x: Value, { partner, half }: Mirror): { even: Value; odd: Value } {
  const first = (value: Value): Value => g.slice(value, [0], [half], [-1]);
  const [own, other] = [first(x), first(g.gather(x, g.constant("int64", partner), -1))];
  return { even: g.add(own, other), odd: g.sub(own, other) };
}

/** A last axis of which the even and the odd part are known for its first half: their sum there, their difference at the partners. */
export function unfold(g: Builder, even: Value, odd: Value, { partner, half }: Mirror): Value {
  const first = g.add(even, odd);
  if (partner.length === half) return first;
  const mirrored = partner.slice(half);
  const lowest = Math.min(...mirrored);
  const rest = g.slice(g.sub(even, odd), [lowest], [lowest + mirrored.length], [-1]);
  const order = g.constant(
    "int64",
    mirrored.map((i) => i - lowest),
  );
  return g.concat([first, g.gather(rest, order, -1)], -1);
}
