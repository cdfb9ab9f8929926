import type { ModelCheck } from "./check-model.ts";

const shapeOf = (shape: readonly (number | string)[]): string => `[${shape.join(", ")}]`;
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 10e6 ? 1 : 0)} MB`;
const small = (x: number): string => (x === 0 ? "0" : x.toExponential(1));

/** Sites with their layer numbers replaced, so that equal layers take one line. */
function siteLines({ sites }: ModelCheck): string[] {
  const groups = new Map<string, { count: number; shape: string; kind: string }>();
  for (const { name, kind, inFeatures, outFeatures } of sites) {
    const group = groups.get(name.replace(/\.\d+(?=\.|$)/g, ".*")) ?? {
      count: 0,
      kind,
      shape: kind === "norm" ? `${inFeatures}` : `${inFeatures} to ${outFeatures}`,
    };
    groups.set(name.replace(/\.\d+(?=\.|$)/g, ".*"), { ...group, count: group.count + 1 });
  }
  const width = Math.max(0, ...[...groups.keys()].map((name) => name.length));
  return [...groups].map(([name, { count, kind, shape }]) => `  ${name.padEnd(width)}  ${count} x ${kind} ${shape}`);
}

function kindLines({ kinds }: ModelCheck): string[] {
  return kinds.map(({ kind, method, sites, gradients, merged, problem }) => {
    const head = `  ${kind}, ${sites} ${sites === 1 ? "site" : "sites"}, ${method}: `;
    if (!gradients) return `${head}failed: ${problem}`;
    const agreement = gradients.inconclusive
      ? `gradients not verified (noise ${small(gradients.noise)})`
      : `gradients ${gradients.agrees ? "right" : "WRONG"}, off by ${small(gradients.error)}`;
    return `${head}${agreement}; merged ${merged === null ? "refused" : `off by ${small(merged)}`}`;
  });
}

const nodesShown = (nodes: readonly string[]): string =>
  nodes.length === 1 ? `"${nodes[0]}"` : `${nodes.length} nodes, "${nodes[0]}" the first`;

/**
 * A check as text for a terminal; its last line is the verdict.
 * @example
 * process.stdout.write(formatCheck(await checkModel(model, onnxruntimeNode)));
 */
export function formatCheck(check: ModelCheck): string {
  const operators = (title: string, list: ModelCheck["unknownOperators"]): string[] =>
    list.length === 0 ? [] : [`${title}: ${list.map((m) => `${m.operator} x${m.count} (${m.example})`).join(", ")}`];
  const { memory, memorySizes, sizes } = check;
  const lines = [
    `exporter: ${check.exporter}, opset ${check.opset ?? "?"}, ${check.precision}, ${check.nodes} nodes`,
    `inputs: ${check.inputs.map((v) => `${v.name} ${v.type} ${shapeOf(v.shape)}`).join(", ")}`,
    `outputs: ${check.outputs.map((v) => `${v.name} ${v.type} ${shapeOf(v.shape)}`).join(", ")}`,
    ...check.branches.map(({ input, value, reason }) => `branch trained: ${input} = ${value}, ${reason}`),
    ...check.freed.map(
      ({ symbol, value, nodes }) =>
        `size freed: the file itself runs with ${symbol} ${value} alone, which the exporter wrote into ${nodesShown(nodes)}; here it may be any`,
    ),
    ...(check.sites.length === 0 ? [] : ["sites:", ...siteLines(check)]),
    ...operators("operators the engine does not know", check.unknownOperators),
    ...operators("operators without a gradient rule in the way", check.operatorsInTheWay),
  ];
  if (check.kinds.length > 0 && sizes) {
    lines.push(`adapters against finite differences, on made-up inputs (batch ${sizes.batch}):`, ...kindLines(check));
  }
  if (memory) {
    const shown = Object.entries(memorySizes).map(([name, size]) => `${name} ${size}`);
    const at = shown.length === 0 ? "" : ` (${shown.join(", ")})`;
    lines.push(`memory to train ${check.trained}${at}: about ${megabytes(memory.totalBytes)}`);
  }
  if (check.step) {
    const { batch, length, elapsedMs } = check.step;
    lines.push(`a step at batch ${batch}, length ${length} took ${elapsedMs.toFixed(elapsedMs < 10 ? 1 : 0)} ms here`);
  }
  const reasons = check.reasons.length === 0 ? "" : `: ${check.reasons.join("; ")}`;
  return `${lines.join("\n")}\nverdict: ${check.verdict}${reasons}\n`;
}
