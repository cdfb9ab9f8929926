import type { GradientRule } from "../../packages/core/src/gradients/rule.ts";
import type { CheckTable, OperatorChecks } from "../gradient-checks/aggregate.ts";

const CONTRIB = "com.microsoft";
const OWN = "onnx-peft";

interface Operator {
  readonly name: string;
  readonly domain: string;
  readonly entry: GradientRule;
  readonly checks: OperatorChecks | undefined;
}

const byName = (a: Operator, b: Operator): number => (a.name < b.name ? -1 : 1);

/** "10+ fixed (5+ entry by entry), 20+ symbolic, 2+ frozen; opsets 11, 21". */
function describe(checks: OperatorChecks | undefined): string {
  if (!checks) return "";
  const { static: fixed, entries, symbolic, frozen, points, opsets } = checks;
  const parts = [
    fixed > 0 ? `${fixed}+ fixed${entries > 0 ? ` (${entries}+ entry by entry)` : ""}` : "",
    symbolic > 0 ? `${symbolic}+ symbolic` : "",
    frozen > 0 ? `${frozen}+ frozen` : "",
    points > 0 ? `${points}+ at points` : "",
  ];
  const listed = parts.filter((part) => part !== "").join(", ");
  return `${listed}; opset${opsets.length > 1 ? "s" : ""} ${opsets.join(", ")}`;
}

function section(title: string, operators: readonly Operator[]): string[] {
  if (operators.length === 0) return [];
  const rows = [...operators].sort(byName).map(({ name, entry, domain, checks }) => {
    if ("none" in entry) return `| ${name} | none: ${entry.none} | |`;
    const [from, to] = entry.opsets;
    const opsets = from === to ? `opset ${from}` : `opsets ${from} to ${to}`;
    return `| ${name} | ${domain === "" ? `yes, ${opsets}` : "yes"} | ${describe(checks)} |`;
  });
  return [`## ${title}`, "", "| Operator | Gradient | Checks |", "|---|---|---|", ...rows, ""];
}

/** docs/operators.md: every operator the engine knows, from the gradient table and the checks that ran. */
export function operatorsPage(table: Readonly<Record<string, GradientRule>>, checks: CheckTable): string {
  const operators = Object.entries(table).map(([key, entry]): Operator => {
    const [domain, name] = key.includes("::") ? (key.split("::") as [string, string]) : ["", key];
    return { name, domain, entry, checks: "none" in entry ? undefined : checks[key] };
  });
  const differentiable = operators.filter(({ entry }) => "opsets" in entry).length;
  const of = (domain: string): Operator[] => operators.filter((o) => o.domain === domain);
  return [
    "# Operators",
    "",
    `Shapes are inferred for ${operators.length} operators; ${differentiable} of them have a gradient rule. The others say why they have`,
    "none: their result does not depend on their input in a differentiable way. An operator that is not listed is refused",
    "with code `UNSUPPORTED_OPERATOR` when a graph is taken over.",
    "",
    "Checks are counted while the tests of the rules run, from the graphs that were really differentiated: against finite",
    "differences on ONNX Runtime with fixed shapes (along random directions, and entry by entry), with symbolic shapes, with",
    "one input frozen; and at points where finite differences do not exist (kinks, ties, rounding) against PyTorch's values",
    "or worked-out ones. Numbers are rounded down. The test run fails when they are not the committed ones. Written by",
    "`npm run readme`.",
    "",
    ...section("ONNX", of("")),
    ...section("ONNX Runtime (`com.microsoft`)", of(CONTRIB)),
    ...section("This project's own (removed before a graph is run)", of(OWN)),
  ].join("\n");
}
