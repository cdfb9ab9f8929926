import { groundNames } from "../../packages/core/src/methods/testing/ground-names.ts";
import type { GroundBehaviour } from "../behaviour/aggregate.ts";
import { markdownTable } from "./results-table.ts";

/** Codes of refusals, which are upper-case. */
const isCode = (result: string): boolean => /^[A-Z_]+$/.test(result);

/** What a row's cell says: how a capability was found on the grounds where the method has modules. */
function cell(entries: readonly GroundBehaviour[], capability: string): string {
  const found = entries.flatMap(({ ground, found }) =>
    (found[capability] ?? []).map((result) => ({ ground, result: isCode(result) ? "refused" : result })),
  );
  const results = [...new Set(found.map(({ result }) => result))].sort();
  if (results.length <= 1) return results[0] ?? "";
  const grounds = (result: string): string[] => [
    ...new Set(found.flatMap((f) => (f.result === result ? [f.ground] : []))),
  ];
  const all = new Set(found.map(({ ground }) => ground)).size;
  const rank = (result: string): number => (result === "refused" ? 0 : grounds(result).length);
  // "yes; refused on convolution" where models differ, "exact or to rounding" where configurations do.
  const [most = "", ...others] = results.sort((a, b) => rank(b) - rank(a));
  const clauses = others.map((result) =>
    grounds(result).length < all ? `; ${result} on ${grounds(result).join(", ")}` : ` or ${result}`,
  );
  return [most, ...clauses].join("");
}

const methodsOf = (entries: readonly GroundBehaviour[]): string[] => [...new Set(entries.map(({ method }) => method))];

/** The section of docs/methods.md that says what the behaviour matrix found, from the checks that ran. */
export function behaviourSection(titles: ReadonlyMap<string, string>, entries: readonly GroundBehaviour[]): string[] {
  const capabilities = [...new Set(entries.flatMap(({ found }) => Object.keys(found)))].filter((c) => c !== "modules");
  const everywhere = (capability: string): boolean =>
    entries.every(({ found }) => (found[capability] ?? ["yes"]).every((result) => result === "yes"));
  const [same, different] = [capabilities.filter(everywhere), capabilities.filter((c) => !everywhere(c))];
  // Refused for every method by its nature: nothing may be merged that is not finite.
  const shown = different.filter((c) => new Set(entries.flatMap(({ found }) => found[c] ?? [])).size > 1);
  const rows = [...titles].map(([method, title]) => {
    const own = entries.filter((entry) => entry.method === method);
    const grounds = groundNames.map((name) => {
      const entry = own.find(({ ground }) => ground === name);
      return !entry ? "" : entry.configurations === 0 ? "refused" : String(entry.configurations);
    });
    return [title, ...grounds, ...shown.map((capability) => cell(own, capability))];
  });
  const columns = ["Method", ...groundNames.map((name) => name[0]?.toUpperCase() + name.slice(1)), ...shown];
  const tried = entries.reduce((sum, { configurations }) => sum + configurations, 0);
  return [
    "## What the tests found",
    "",
    `Every method is tried on five small models in ${tried} combinations of model and configuration: an MLP, a transformer encoder, convolutions in`,
    'one and two axes, an embedding, experts in one parameter. The columns of the models count configurations; what differs among these is joined by "or". A model without',
    "modules for a method is refused, which is",
    "checked too, as is everything else that a method does not declare: the error and its reason. Collected while the tests run; the run fails",
    `when it finds something else than this table. For all methods: ${[...same].sort().join(", ")}; a merge that gives NaN is refused.`,
    "",
    markdownTable({ columns, rows }).replaceAll("--:", "---"),
    "",
  ];
}

/** Registered methods that no test tried. */
export const untried = (types: readonly string[], entries: readonly GroundBehaviour[]): string[] =>
  types.filter((type) => !methodsOf(entries).includes(type));
