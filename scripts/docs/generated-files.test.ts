import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test, vi } from "vitest";
import { openClaims, readClaims } from "../../bench/src/claim-results.ts";
import { type Comparison, comparisonChart, comparisonPage } from "../../bench/src/methods/comparison-page.ts";
import { costPage, readCosts } from "../../bench/src/methods/cost-table.ts";
import { compared, groupOf } from "../../bench/src/methods/entries.ts";
import { checkFile } from "../../packages/core/src/check/check-file.ts";
import { formatCheck } from "../../packages/core/src/check/format-check.ts";
import { gradientTable } from "../../packages/core/src/gradients/table.ts";
import { listMethods } from "../../packages/core/src/methods/registry.ts";
import { onnxruntimeNode } from "../../packages/core/src/runtime/onnxruntime-node.ts";
import { parseBehaviour } from "../behaviour/aggregate.ts";
import { parseChecks } from "../gradient-checks/aggregate.ts";
import { papers, papersPage } from "../papers/papers-page.ts";
import { excerpt, fenced, fillBlocks } from "./blocks.ts";
import { claimsPage } from "./claims-page.ts";
import { dataFlow, themes } from "./data-flow.ts";
import { methodsPage } from "./methods-page.ts";
import { operatorsPage } from "./operators-page.ts";
import { resultsSection } from "./results-table.ts";
import { supportedSection } from "./supported.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const updating = process.env["UPDATE_DOCS"] === "1";
const read = (path: string): Promise<string> => readFile(join(root, path), "utf8");

/** Writes a generated file under `npm run readme`, and checks that it is up to date under `npm test`. */
async function expectFile(path: string, content: string): Promise<void> {
  if (updating) await writeFile(join(root, path), content);
  else expect(await read(path), `${path} is out of date: npm run readme`).toBe(content);
}

/** What an example of docs/examples prints. */
async function outputOf(name: string): Promise<string> {
  const lines: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...parts: unknown[]) => {
    lines.push(parts.map((part) => (Array.isArray(part) ? `[${part.join(", ")}]` : String(part))).join(" "));
  });
  try {
    await import(join(root, "docs/examples", `${name}.ts`));
  } finally {
    log.mockRestore();
  }
  return `${lines.join("\n")}\n`;
}

const withoutMeasures = (text: string): string =>
  text
    .replace(/off by \S+/g, "off by")
    .replace(/about [\d.]+ MB/, "about")
    .replace(/a step at batch .* ms here/, "a step");

const withoutNumbers = (text: string): string => text.replace(/\d+(\.\d+)?/g, "0");

test("docs/operators.md lists the gradient table and the checks that ran", async () => {
  const checks = parseChecks(await read("docs/gradient-checks.jsonl"));
  await expectFile("docs/operators.md", operatorsPage(gradientTable, checks));
});

test("docs/methods.md describes the registered methods and what the tests found", async () => {
  const behaviour = parseBehaviour(await read("docs/behaviour.jsonl"));
  const exchange = JSON.parse(await read("parity/types.json"));
  await expectFile("docs/methods.md", methodsPage(listMethods(), { behaviour, exchange }));
});

test("the pages of the comparison and of the costs show their results", async () => {
  const results = join(root, "bench/results");
  const comparison = JSON.parse(await read("bench/results/methods.json")) as Comparison;
  await expectFile("bench/results/methods.md", comparisonPage(comparison));
  await expectFile("bench/results/methods.svg", comparisonChart(comparison, groupOf));
  const measured = await readCosts(results);
  if (Object.keys(measured.costs).length > 0)
    await expectFile("bench/results/method-costs.md", costPage(compared, measured));
});

test("docs/claims.md shows what was measured", async () => {
  await expectFile("docs/claims.md", claimsPage(readClaims(), openClaims()));
});

test("docs/papers.md names the tests and claims of every paper", async () => {
  const failed = new Set(readClaims().flatMap(({ id, holds }) => (holds ? [] : [id])));
  await expectFile("docs/papers.md", papersPage(papers, failed));
});

test.each(Object.keys(themes) as (keyof typeof themes)[])("the picture of the data flow, %s", (theme) =>
  expectFile(`docs/data-flow-${theme}.svg`, dataFlow(theme)),
);

test("the example of core prints what its README says", async () => {
  await expectFile("docs/examples/gradient.txt", await outputOf("gradient"));
});

test("the example of the README prints what it says, up to the numbers of another machine", async () => {
  await import(join(root, "docs/examples/definitions.ts")); // its data
  const output = await outputOf("fine-tune");
  if (updating) await expectFile("docs/examples/fine-tune.txt", output);
  else expect(withoutNumbers(output)).toBe(withoutNumbers(await read("docs/examples/fine-tune.txt")));
}, 180_000);

const example = async (name: string): Promise<Record<string, string>> => ({
  [`code:${name}`]: fenced("ts", await read(`docs/examples/${name}.ts`)),
  [`output:${name}`]: fenced("text", await read(`docs/examples/${name}.txt`)),
});

test("the check prints what the README says, up to the numbers of another machine", async () => {
  const file = "parity/golden/models/bert/onnx/model_torchscript_opset17.onnx";
  const found = formatCheck(await checkFile(join(root, file), onnxruntimeNode, { threads: 1, batch: 8, tokens: 48 }));
  if (updating) await expectFile("docs/examples/check.txt", found);
  // Roundings, memory and times differ from machine to machine; how many of what there is does not.
  else expect(withoutMeasures(found)).toBe(withoutMeasures(await read("docs/examples/check.txt")));
});

test("README.md holds the examples, what is supported and the measured tables", async () => {
  const results = join(root, "bench/results");
  const blocks = {
    ...(await example("fine-tune")),
    "output:check": fenced("text", await read("docs/examples/check.txt")),
    supported: supportedSection(root),
    "table:quickstart": resultsSection(results, "quickstart"),
    "table:step": resultsSection(results, "step"),
    "table:epoch": resultsSection(results, "epoch"),
    "table:device": resultsSection(results, "device"),
    "table:device-check": resultsSection(results, "device-check"),
  };
  await expectFile("README.md", fillBlocks(await read("README.md"), blocks));
});

test("the README of core holds its example", async () => {
  const path = "packages/core/README.md";
  await expectFile(path, fillBlocks(await read(path), await example("gradient")));
});

test("the README of text holds its example", async () => {
  const path = "packages/text/README.md";
  await expectFile(path, fillBlocks(await read(path), await example("fine-tune")));
});

test("the code in CONTRIBUTING.md is that of the sources", async () => {
  const code = async (file: string, from: string, to?: string): Promise<string> =>
    fenced("ts", excerpt(await read(join("packages/core/src", file)), from, to));
  const blocks = {
    atan: await code("gradients/trigonometry.ts", "  /** Y = atan X", ")),\n"),
    gemm: await code("gradients/matrix.ts", "  /**\n   * Y = alpha * A'·B' + beta * C", "\n  }),"),
    "cum-sum": await code("gradients/cum-sum.test.ts", "  test.each(", "\n  });"),
    bitfit: (await code("methods/bitfit.ts", "// 1. Config")).replace(/\/\*\*[\s\S]*?\*\/\n/, ""),
  };
  await expectFile("CONTRIBUTING.md", fillBlocks(await read("CONTRIBUTING.md"), blocks));
});
