/** An Einsum equation with one letter per axis, also where it was written with an ellipsis or without its output. */
export interface EinsumEquation {
  readonly terms: readonly string[];
  readonly output: string;
}

const alphabet = [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"];

/**
 * Reads an equation such as "...ij,jk->...ik" for inputs of the given ranks. An ellipsis stands for the axes that a term
 * does not name, aligned at the right; without an output, it is the ellipsis and the letters that occur once, in order.
 * Null when the terms do not fit the ranks.
 */
export function readEquation(text: string, ranks: readonly number[]): EinsumEquation | null {
  const [left = "", right] = text.replaceAll(" ", "").split("->");
  const given = left.split(",");
  if (given.length !== ranks.length) return null;
  const hidden = given.map((term, i) => (term.includes("...") ? (ranks[i] ?? 0) - (term.length - 3) : 0));
  if (
    given.some((term, i) => hidden[i] === undefined || term.replace("...", "").length + (hidden[i] ?? 0) !== ranks[i])
  )
    return null;
  if (hidden.some((n) => n < 0)) return null;
  const most = Math.max(0, ...hidden);
  const free = alphabet
    .filter((letter) => !left.includes(letter))
    .slice(0, most)
    .join("");
  if (free.length < most) return null;
  const terms = given.map((term, i) => term.replace("...", free.slice(most - (hidden[i] ?? 0))));
  if (right !== undefined) return { terms, output: right.replace("...", free) };
  const letters = [...left.replaceAll("...", "").replaceAll(",", "")];
  const once = letters.filter((l) => letters.indexOf(l) === letters.lastIndexOf(l)).sort();
  return { terms, output: free + once.join("") };
}
