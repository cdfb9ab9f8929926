import type { GradientRule } from "../../packages/core/src/gradients/rule.ts";

const CONTRIB = "com.microsoft";
const OWN = "onnx-peft";

interface Operator {
  readonly name: string;
  readonly domain: string;
  readonly entry: GradientRule;
}

function parse([key, entry]: readonly [string, GradientRule]): Operator {
  const [domain, name] = key.includes("::") ? (key.split("::") as [string, string]) : ["", key];
  return { name, domain, entry };
}

const byName = (a: Operator, b: Operator): number => (a.name < b.name ? -1 : 1);

function section(title: string, operators: readonly Operator[]): string[] {
  if (operators.length === 0) return [];
  const rows = [...operators].sort(byName).map(({ name, entry, domain }) => {
    if ("none" in entry) return `| ${name} | none: ${entry.none} |`;
    const [from, to] = entry.opsets;
    const opsets = from === to ? `opset ${from}` : `opsets ${from} to ${to}`;
    return `| ${name} | ${domain === "" ? `yes, ${opsets}` : "yes"} |`;
  });
  return [`## ${title}`, "", "| Operator | Gradient |", "|---|---|", ...rows, ""];
}

/** docs/operators.md: every operator the engine knows, from the gradient table. */
export function operatorsPage(table: Readonly<Record<string, GradientRule>>): string {
  const operators = Object.entries(table).map(parse);
  const differentiable = operators.filter(({ entry }) => "opsets" in entry).length;
  const of = (domain: string): Operator[] => operators.filter((o) => o.domain === domain);
  return [
    "# Operators",
    "",
    `Shapes are inferred for ${operators.length} operators; ${differentiable} of them have a gradient rule. The others say why they have`,
    "none: their result does not depend on their input in a differentiable way. An operator that is not listed is refused",
    "with code `UNSUPPORTED_OPERATOR` when a graph is taken over. Written by `npm run readme`.",
    "",
    ...section("ONNX", of("")),
    ...section("ONNX Runtime (`com.microsoft`)", of(CONTRIB)),
    ...section("This project's own (removed before a graph is run)", of(OWN)),
  ].join("\n");
}
