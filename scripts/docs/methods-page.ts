import type { SiteKind, SiteShape } from "../../packages/core/src/adapters/site.ts";
import { methodCatalogue } from "../../packages/core/src/methods/catalogue/catalogue.ts";
import type { MethodEntry } from "../../packages/core/src/methods/catalogue/entry.ts";
import { declared, type Method, parameterCount, whyNoMixedBatch } from "../../packages/core/src/methods/method.ts";
import type { GroundBehaviour } from "../behaviour/aggregate.ts";
import { behaviourSection } from "./behaviour-table.ts";
import { markdownTable } from "./results-table.ts";

const hidden = 768;
const module = (name: string, kind: SiteKind, rows: number, weightShape: readonly number[]): SiteShape => ({
  name,
  kind,
  inFeatures: rows,
  outFeatures: hidden,
  weightShape,
  hasBias: kind !== "embedding",
});

/** Query and value of BERT-base's twelve layers; for methods without linear modules its norms, its attention blocks or its embedding of words. */
function bertSites(kinds: readonly SiteKind[]): SiteShape[] {
  const layers = Array.from({ length: 12 }, (_, i) => `encoder.layer.${i}`);
  if (kinds.includes("linear")) {
    return layers.flatMap((at) =>
      ["query", "value"].map((name) => module(`${at}.attention.self.${name}`, "linear", hidden, [hidden, hidden])),
    );
  }
  if (kinds.includes("norm")) {
    const names = layers.flatMap((at) => [`${at}.attention.output.LayerNorm`, `${at}.output.LayerNorm`]);
    return ["embeddings.LayerNorm", ...names].map((name) => module(name, "norm", hidden, [hidden]));
  }
  if (kinds.includes("attention")) {
    const sizes = {
      ...{ heads: 12, keyHeads: 12, keyWidth: 64, valueWidth: 64, hidden },
      ...{ crosses: false, isPacked: false, hasOutput: true },
    };
    return layers.map((at) => ({ ...module(`${at}.attention.self`, "attention", hidden, []), attention: sizes }));
  }
  const kind = kinds.includes("tokens") ? "tokens" : "embedding";
  return [module("embeddings.word_embeddings", kind, 30_522, [30_522, hidden])];
}

/** Trained values at the default configuration, from shapes alone. */
export function bertCount(method: Method, entry: MethodEntry): number {
  const config = method.config.parse(entry.example ?? {});
  const parts = method.parts?.(config) ?? [{ method, own: config }];
  return parts.reduce((sum, part) => sum + parameterCount(part.method, part.own, bertSites(part.method.kinds)), 0);
}

const anchor = (title: string): string =>
  title
    .toLowerCase()
    .replace(/[^a-z0-9 -]/g, "")
    .replaceAll(" ", "-");
const yes = (value: boolean): string => (value ? "yes" : "no");

function row(method: Method, entry: MethodEntry): string[] {
  const config: object = method.config.parse(entry.example ?? {});
  const start = declared(method.identityAtStart, config);
  const specs = Object.values(
    method.parameters(bertSites(method.kinds)[0] as SiteShape, config, bertSites(method.kinds)),
  );
  const swaps = !method.parts && (method.swap !== undefined || specs.every((spec) => spec.replaces !== undefined));
  return [
    `[${entry.title}](#${anchor(entry.title)})`,
    `\`${method.type}\``,
    method.paper === null ? "" : `[${method.paper}](https://arxiv.org/abs/${method.paper})`,
    method.kinds.join(", "),
    `${start === "rounded" ? "to rounding" : yes(start)}${typeof method.identityAtStart === "function" ? " *" : ""}`,
    `${yes(method.delta !== null)}${typeof method.noDelta === "function" ? " *" : ""}`,
    `${yes(declared(method.deltaNeedsWeight, config))}${typeof method.deltaNeedsWeight === "function" ? " *" : ""}`,
    swaps ? "any" : "one",
    yes(whyNoMixedBatch(method, config, []) === null),
    entry.parameters,
    bertCount(method, entry).toLocaleString("en-US"),
  ];
}

const paragraph = ({ title, use, avoid, cost, source }: MethodEntry, type: string): string[] => [
  `### ${title}`,
  "",
  `\`${type}\`. **When:** ${use} **When not:** ${avoid} **Cost:** ${cost} **Source:** ${source}`,
  "",
];

/** What runs found: the behaviour matrix, and the exchange with peft (parity/types.json). */
export interface Findings {
  readonly behaviour: readonly GroundBehaviour[];
  readonly exchange: { readonly adapters: readonly { readonly type: string; readonly ok?: boolean }[] };
}

function exchangeSentence({ adapters }: Findings["exchange"]): string {
  const loaded = adapters.filter(({ ok }) => ok === true);
  const types = new Set(loaded.map(({ type }) => type)).size;
  return `\`peft\` loads ${loaded.length} adapters of ${types} of its types that were made here, with logits equal to 1e-5: \`npm run parity:types\`, [types.json](../parity/types.json).`;
}

/**
 * docs/methods.md: what every method declares, counted from shapes, what the tests found, and the catalogue's notes.
 * @throws Error naming registered methods without an entry, and entries without a method
 */
export function methodsPage(
  methods: readonly Method[],
  { behaviour, exchange }: Findings,
  entries: Readonly<Record<string, MethodEntry>> = methodCatalogue,
): string {
  const types = new Set(methods.map(({ type }) => type));
  const missing = [...types].filter((type) => !Object.hasOwn(entries, type));
  const stray = Object.keys(entries).filter((type) => !types.has(type));
  if (missing.length + stray.length > 0) {
    throw new Error(
      `methods/catalogue/catalogue.ts lacks [${missing.join(", ")}] and has [${stray.join(", ")}], which are not registered.`,
    );
  }
  const known = methods.map((method) => ({ method, entry: entries[method.type] as MethodEntry }));
  const columns = [
    ...["Method", "`peft_type`", "Paper (arXiv)", "Modules", "Identity at start", "Merges", "Change depends on W"],
    ...["Configurations in one session", "Mixed batches", "Trained values of a module", "BERT-base, query and value"],
  ];
  return [
    "# Methods",
    "",
    `${methods.length} adapter methods, all of them trained, saved, merged and served in the same way. Which one: LoRA unless something below`,
    "speaks for another. Learning rates differ: 1e-4 to 4e-4 is usual for LoRA, and methods that train vectors or coefficients want ten to",
    "a hundred times that.",
    "",
    "- **Identity at start:** a new adapter leaves every output as it was, bit for bit, to rounding, or not.",
    "- **Merges:** the change can be written into the weights of an ONNX file.",
    "- **Change depends on W:** unmerging needs the base model, and the same adapter on another base is another change.",
    "- **Configurations in one session:** a swappable model serves adapters of any rank and scale, or of the one configuration it was",
    "  made for.",
    "- **Mixed batches:** every row of a batch may have an adapter of its own, or none.",
    "- **BERT-base:** trained values at the default configuration at query and value of the twelve layers; norms, or one token, for the",
    "  methods that have no linear modules. An asterisk: it depends on the configuration, and the default's answer is shown.",
    "",
    markdownTable({ columns, rows: known.map(({ method, entry }) => row(method, entry)) }).replaceAll("--:", "---"),
    "",
    "Any method whose change is one of linear weights becomes a LoRA adapter with `convertToLora`, by fixed rank or explained variance, and",
    "says what it loses. `combineAdapters` makes one LoRA adapter of several: `cat`, `svd`, `linear`, TIES, DARE and magnitude pruning.",
    "",
    "Two ways of training go with methods and are none themselves. **DiffoRA** ([2502.08905](https://arxiv.org/abs/2502.08905)) asks which modules deserve",
    "a LoRA at all: `searchModules`, or the recipe `diffora`, trains a gate per module on samples of its own, keeps the share of the largest gates and",
    "goes on with a plain LoRA there; a step of the search costs two, and what is dropped costs nothing afterwards. **DEFT's density penalty**",
    "([2402.01911](https://arxiv.org/abs/2402.01911)), `densityPenalty` in the option `penalties` of any training, drives activations of feed-forward blocks to",
    "zero, for hardware that skips zeros; `activationDensity` counts them, and the recipe `deft` trains without and with it.",
    "",
    exchangeSentence(exchange),
    "",
    ...behaviourSection(new Map(known.map(({ method, entry }) => [method.type, entry.title])), behaviour),
    "## When to use which",
    "",
    ...known.flatMap(({ method, entry }) => paragraph(entry, method.type)),
  ].join("\n");
}
