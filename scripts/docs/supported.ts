import { existsSync } from "node:fs";
import { join } from "node:path";
import * as core from "../../packages/core/src/index.ts";
import type { Method } from "../../packages/core/src/methods/method.ts";
import { listMethods } from "../../packages/core/src/methods/registry.ts";
import { bertConfig } from "../../packages/text/src/models/bert.ts";
import { distilBertConfig } from "../../packages/text/src/models/distilbert.ts";
import { markdownTable } from "./results-table.ts";
import { type Documented, documentedExports } from "./source-docs.ts";

const bullets = (entries: readonly Documented[]): string =>
  entries.map(({ name, summary }) => `- \`${name}\`: ${summary}`).join("\n");

const costs = "bench/results/method-costs.md";

/** The README's section on methods, models, tasks, losses and metrics, from the code and its doc comments. */
export function supportedSection(root: string): string {
  const of = (folder: string, kind: RegExp): Documented[] =>
    documentedExports(join(root, "packages", folder)).filter(({ declaration }) => kind.test(declaration));
  const documented = new Map(of("core/src/methods", /./).map((entry) => [entry.name, entry]));
  const methods = listMethods().map(({ type, paper, kinds }) => {
    const [name = ""] =
      Object.entries(core).find(
        ([, value]) => typeof value === "object" && "keys" in value && (value as Partial<Method>).type === type,
      ) ?? [];
    const constant = documented.get(name);
    if (!constant) throw new Error(`The method ${type} has no doc comment.`);
    const source = paper === null ? "" : `[${paper}](https://arxiv.org/abs/${paper})`;
    return [`\`${constant.name}\``, `\`${type}\``, kinds.join(", "), source];
  });
  const architectures = [...bertConfig.shape.model_type.options, ...distilBertConfig.shape.model_type.values];
  return [
    "**Methods**",
    "",
    markdownTable({ columns: ["Method", "`peft_type`", "Sites", "Paper (arXiv)"], rows: methods }).replaceAll(
      "--:",
      "---",
    ),
    "",
    "What each of them is for, its cost and what it declares: [docs/methods.md](docs/methods.md). Side by side on one task:",
    `[methods.md](bench/results/methods.md)${existsSync(join(root, costs)) ? `; time and memory of a training step: [method-costs.md](${costs})` : ""}. What`,
    "their papers say, checked: [docs/claims.md](docs/claims.md).",
    "`full` with nothing but `modulesToSave` is a linear probe; every method takes `modulesToSave` for new heads.",
    "",
    `**Models**, built from \`config.json\` and safetensors: ${architectures.map((name) => `\`${name}\``).join(", ")};`,
    "other encoders from the ONNX export that transformers.js uses (`onnx/model.onnx`).",
    "",
    "**Tasks** (`@onnx-peft/text`)",
    "",
    bullets(of("text/src/tasks", /\): TextTask</)),
    "",
    "**Losses** (`@onnx-peft/core`)",
    "",
    bullets(of("core/src/losses", /\): LossParts/)),
  ].join("\n");
}
