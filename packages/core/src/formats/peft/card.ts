import type { TensorData } from "../../onnx/ir.ts";
import { elementCount } from "../../onnx/tensor.ts";

/** What the caller tells about an adapter; everything is optional. */
export interface PeftCard {
  /** Heading; default "<method> adapter". */
  readonly title?: string;
  /** One or more paragraphs of Markdown below the heading. */
  readonly text?: string;
  /** Hub tags besides the method. */
  readonly tags?: readonly string[];
  /** Hub task, "text-classification" for example. */
  readonly pipelineTag?: string;
  readonly license?: string;
  /** A table of results: one row per measured thing, cells in the order of `columns`. */
  readonly metrics?: { readonly columns: readonly string[]; readonly rows: readonly (readonly (string | number)[])[] };
}

/** A double-quoted text is written the same in JSON and YAML. */
const yaml = (text: string): string => JSON.stringify(text);
const cell = (value: string | number): string => String(value).replaceAll("|", "\\|").replace(/\s+/g, " ");
const row = (cells: readonly (string | number)[]): string => `| ${cells.map(cell).join(" | ")} |`;
const inline = (value: unknown): string =>
  `\`${(typeof value === "string" ? value : JSON.stringify(value)).replaceAll("`", "'")}\``;

/** A Hub id ("org/name" or "name"). A path of somebody's disk does not belong into a card, and the Hub refuses it. */
const hubId = /^[\w][\w.-]*(\/[\w][\w.-]*)?$/;

function frontMatter(config: Readonly<Record<string, unknown>>, card: PeftCard): string[] {
  const base = config.base_model_name_or_path;
  const method = String(config.peft_type).toLowerCase().replaceAll("_", "-");
  const tags = [...new Set([method, ...(card.tags ?? [])])].sort();
  return [
    "---",
    ...(typeof base === "string" && hubId.test(base) ? [`base_model: ${yaml(base)}`] : []),
    "library_name: peft",
    ...(card.license === undefined ? [] : [`license: ${yaml(card.license)}`]),
    ...(card.pipelineTag === undefined ? [] : [`pipeline_tag: ${yaml(card.pipelineTag)}`]),
    "tags:",
    ...tags.map((tag) => `- ${yaml(tag)}`),
    "---",
  ];
}

/** Fields worth showing, in this order, where they differ from nothing. */
const shownFields = [
  "r",
  "lora_alpha",
  "lora_dropout",
  "use_rslora",
  "use_dora",
  "bias",
  "target_modules",
  "modules_to_save",
];

/**
 * The text of an adapter's README.md: front matter for the Hub, method, settings, number of parameters, the caller's
 * table, how to load it with `peft`.
 *
 * @example
 * peftCard({ peft_type: "LORA", r: 8 }, tensors, { title: "Spam", metrics: { columns: ["split", "accuracy"], rows: [["test", 0.97]] } });
 */
export function peftCard(
  config: Readonly<Record<string, unknown>>,
  tensors: ReadonlyMap<string, TensorData>,
  card: PeftCard = {},
): string {
  const method = String(config.peft_type);
  let parameters = 0;
  for (const { dims } of tensors.values()) parameters += elementCount(dims);
  const fields = shownFields.filter((name) => {
    const value = config[name];
    return value !== undefined && value !== null && value !== false && !(Array.isArray(value) && value.length === 0);
  });
  const { metrics } = card;
  const lines = [
    ...frontMatter(config, card),
    "",
    `# ${card.title ?? `${method} adapter`}`,
    "",
    ...(card.text === undefined ? [] : [card.text.trim(), ""]),
    "## Method",
    "",
    `- Type: ${inline(method)}`,
    ...fields.map((name) => `- ${name}: ${inline(config[name])}`),
    `- Parameters in this file: ${parameters.toLocaleString("en-US")} in ${tensors.size} tensors`,
    "",
    ...(metrics
      ? ["## Results", "", row(metrics.columns), row(metrics.columns.map(() => "---")), ...metrics.rows.map(row), ""]
      : []),
    "## Use",
    "",
    "Trained with onnx-peft. In Python:",
    "",
    "```python",
    "from peft import PeftModel",
    "",
    "model = PeftModel.from_pretrained(base_model, adapter_folder)",
    "```",
  ];
  return `${lines.join("\n")}\n`;
}
