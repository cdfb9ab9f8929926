import type { ModelDescription } from "./describe.ts";
import type { MissingOperator } from "./missing-rules.ts";

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 10e6 ? 1 : 0)} MB`;
const thousands = (n: number): string => n.toString().replace(/\B(?=(\d{3})+$)/g, ",");

/** Rows as columns of equal width, two blanks between. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, c) => Math.max(...rows.map((row) => row[c]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, c) => cell.padEnd(widths[c] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

const operators = (title: string, list: readonly MissingOperator[]): string[] =>
  list.length === 0 ? [] : [`${title}: ${list.map((m) => `${m.operator} x${m.count} (${m.example})`).join(", ")}`];

/** Module names with their layer numbers replaced, so that equal layers take one line. */
function siteRows({ sites }: ModelDescription): string[][] {
  const groups = new Map<string, { count: number; row: string[] }>();
  for (const site of sites) {
    const name = site.name.replace(/\.\d+(?=\.|$)/g, ".*");
    const shape = site.kind === "norm" ? `${site.inFeatures}` : `${site.inFeatures} to ${site.outFeatures}`;
    const stored = site.packed ? `${site.packed.form}, ${site.packed.bits} bits` : "";
    const row = [name, site.kind, shape, site.hasBias ? "bias" : "", stored];
    const group = groups.get(row.join("|"));
    if (group) group.count += 1;
    else groups.set(row.join("|"), { count: 1, row });
  }
  return [...groups.values()].map(({ count, row: [name = "", ...rest] }) => [name, `${count}`, ...rest]);
}

/**
 * A description as text for a terminal.
 * @example
 * process.stdout.write(formatDescription(describeModel(model)));
 */
export function formatDescription(description: ModelDescription): string {
  const { parameters, memory, symbolSizes } = description;
  const kinds = Object.entries(parameters.byKind).filter(([, n]) => n > 0);
  const lines = [
    ...table([["module", "count", "kind", "features", "", ""], ...siteRows(description)]),
    "",
    `parameters: ${thousands(parameters.total)} (${kinds.map(([kind, n]) => `${kind} ${thousands(n)}`).join(", ")})`,
    ...operators("operators the engine does not know", description.unknownOperators),
    ...operators("operators without a gradient rule on the way", description.operatorsWithoutRule),
  ];
  if (memory) {
    const sizes = Object.entries(symbolSizes).map(([name, size]) => `${name} ${size}`);
    lines.push(
      `memory to train ${thousands(memory.trainedParameters)} values (${sizes.join(", ")}): about ${megabytes(memory.totalBytes)}`,
      `  activations ${megabytes(memory.activationBytes)}, weights ${megabytes(memory.weightBytes)}, adapter and optimiser ${megabytes(memory.adapterBytes)}, batches ${megabytes(memory.feedBytes)}, runtime and graph ${megabytes(memory.runtimeBytes + memory.graphBytes)}`,
    );
  } else lines.push(`memory to train: unknown, no way back from "${description.wantedOutput}" to a linear layer`);
  return `${lines.join("\n")}\n`;
}
