import { z } from "zod";
import { nearestName } from "../config/nearest-name.ts";
import { PeftError } from "../errors.ts";
import { savedModules } from "../formats/peft/keys.ts";
import type { Graph } from "../onnx/ir.ts";
import { type Naming, namesIn } from "./naming.ts";
import { compilePattern } from "./pattern.ts";
import type { Site } from "./site.ts";

const names = z.array(z.string().min(1).max(1024)).max(50_000);
const selector = z.union([names, z.string().min(1).max(32_768)]);
const layer = z.int().min(0).max(10_000);

/** Which modules an adapter attaches to: the fields that all of peft's configs share, in camelCase. */
export const targetFields = {
  /** Name endings (["query", "value"]), one regular expression over whole names, or "all-linear". */
  targetModules: selector.optional(),
  /** Endings or a regular expression of modules to leave out. */
  excludeModules: selector.optional(),
  /** Only these layers: the first number in the module's path. Not together with a regular expression. */
  layersToTransform: z.union([layer, z.array(layer).max(10_000)]).optional(),
  /** Name of the list of layers ("layer", "h") when there are several numbers in a path. */
  layersPattern: z.union([names, z.string().min(1).max(1024)]).optional(),
  /**
   * Parameters that hold the matrices of several experts, by the ends of their paths (["experts.gate_up_proj", "experts.down_proj"]).
   * LoRA alone adapts them. Neither excludeModules nor layersToTransform concerns them, as in peft.
   */
  targetParameters: names.optional(),
  /** Modules trained as a whole and saved with the adapter, such as the head. A module counts when its name ends so. */
  modulesToSave: names.optional(),
  /** What the adapter is for, in peft's words; peft adds the usual heads of the task to modulesToSave. */
  taskType: z
    .enum(["SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"])
    .optional(),
  baseModelNameOrPath: z.string().max(4096).optional(),
} as const;

export type TargetConfig = z.output<z.ZodObject<typeof targetFields>>;

/** True when a path is one of the given ones, or ends with one at a dot. */
export const isNamed = (name: string, endings: readonly string[]): boolean =>
  endings.some((ending) => name === ending || name.endsWith(`.${ending}`));

const matcherOf = (selected: readonly string[] | string): ((name: string) => boolean) =>
  typeof selected === "string" ? compilePattern(selected) : (name) => isNamed(name, selected);

/** Every module path of a model: the sites and what contains them. */
const modulePaths = (sites: readonly Site[]): string[] => [
  ...new Set(
    sites.flatMap(({ name }) => {
      const parts = name.split(".");
      return parts.map((_, i) => parts.slice(0, i + 1).join("."));
    }),
  ),
];

/** Index of the layer a module is in: the first number in its path, or the one behind a name of `patterns`; else null. */
function layerOf(name: string, patterns: readonly string[]): number | null {
  if (patterns.length === 0) {
    const match = /^[^\n]*?\.[^.]*\.(\d+)\./.exec(name);
    return match ? Number(match[1]) : null;
  }
  for (const pattern of patterns) {
    const ends = compilePattern(`.*\\.(${pattern})`);
    for (const match of name.matchAll(/\.(\d+)(?=\.)/g)) {
      if (ends(name.slice(0, match.index))) return Number(match[1]);
    }
  }
  return null;
}

const list = <T>(value: T | readonly T[] | undefined): readonly T[] =>
  value === undefined ? [] : Array.isArray(value) ? (value as readonly T[]) : [value as T];

const headNames = /(^|\.)(lm_head|embed_out|classifier|score|qa_outputs|decoder|cls|head)$/;

/**
 * The output head: a linear layer whose result is an output of the model, unchanged but for its shape, when the output or
 * the module is named like one. "all-linear" leaves it out, as peft does.
 */
export function isOutputHead(site: Site, directOutputs: ReadonlyMap<string, string>): boolean {
  return site.uses.some(({ output }) => {
    const shown = directOutputs.get(output);
    return shown !== undefined && (/logits|scores/.test(shown) || headNames.test(site.name));
  });
}

const usualHeads = ["classifier", "score", "qa_outputs"];

/** Sites whose module, or one that contains it, is named by modulesToSave or is a head of the task type. */
export function savedSites(sites: readonly Site[], config: TargetConfig): Site[] {
  const { modulesToSave, taskType } = config;
  if (!modulesToSave && !taskType) return [];
  const saved = savedModules(modulePaths(sites), {
    ...(modulesToSave ? { modules_to_save: modulesToSave } : {}),
    ...(taskType ? { task_type: taskType } : {}),
  });
  // peft writes all usual heads of a task into modules_to_save, and a model has one of them.
  const usual = taskType ? usualHeads : [];
  const missing = (modulesToSave ?? []).filter(
    (ending) => !usual.includes(ending) && !saved.some((path) => path.endsWith(ending)),
  );
  if (missing.length > 0) throw nothingFound("modulesToSave", missing, modulePaths(sites));
  const chosen = sites.filter(({ name }) => saved.some((path) => name === path || name.startsWith(`${path}.`)));
  const experts = chosen.find(({ kind }) => kind === "experts");
  if (experts) {
    throw new PeftError(
      "TARGETS_UNSUITABLE",
      `modulesToSave names "${experts.name}", one parameter with the matrices of experts, which is not trained as a whole.`,
      { hint: "Adapt it with LoRA's targetParameters, and let modulesToSave name the modules beside it." },
    );
  }
  return chosen;
}

/**
 * The experts that targetParameters chooses.
 * @param graph the model's: it says why experts of a name are not among the sites.
 * @throws PeftError TARGETS_NOT_FOUND naming the nearest parameters that exist; TARGETS_UNSUITABLE for weights of modules, and for
 *   parameters that are no factor of a product of matrices
 */
export function parameterSites(
  sites: readonly Site[],
  { targetParameters }: TargetConfig,
  graph: Pick<Graph, "nodes" | "initializers">,
): Site[] {
  if (targetParameters === undefined || targetParameters.length === 0) return [];
  const weight = sites.find(({ kind, name }) => kind !== "experts" && isNamed(`${name}.weight`, targetParameters));
  if (weight) {
    throw new PeftError(
      "TARGETS_UNSUITABLE",
      `targetParameters names "${weight.name}.weight", the weight of a module of kind ${weight.kind}.`,
      { hint: `Name the module in targetModules: "${weight.name}".` },
    );
  }
  const experts = sites.filter(({ kind }) => kind === "experts");
  const chosen = experts.filter(({ name }) => isNamed(name, targetParameters));
  if (chosen.length > 0) return chosen;
  const fused = graph.nodes.find(({ op, domain }) => domain === "com.microsoft" && /MoE$/.test(op));
  if (fused) {
    throw new PeftError(
      "TARGETS_UNSUITABLE",
      `The model computes its experts in the fused operator ${fused.op}, which reads their weights by itself.`,
      { hint: "Export the model without this fusion, so that the experts are products of matrices." },
    );
  }
  const held = [...graph.initializers].find(
    ([name, { dims }]) => dims.length === 3 && isNamed(name, targetParameters),
  )?.[0];
  if (held !== undefined) {
    const readers = graph.nodes.filter(({ inputs }) => inputs.includes(held)).map(({ op }) => op);
    throw new PeftError(
      "TARGETS_UNSUITABLE",
      `"${held}" is in the model, but no factor of a product of matrices: it is read by ${[...new Set(readers)].join(", ") || "no operator"}.`,
      {
        hint: "MatMul, Gemm and Einsum are such products, with all matrices or with those that Gather or GatherND picks.",
      },
    );
  }
  throw nothingFound(
    "targetParameters",
    targetParameters,
    experts.map(({ name }) => name),
  );
}

/**
 * Sites that a target configuration chooses, with the rules of peft 0.21: endings count at a dot; a text is one regular
 * expression over the whole name; where the file's names choose nothing, those of transformers 4 and 5 do; exclusions and modulesToSave win; a full name is chosen whatever its layer.
 * @param directOutputs see {@link isOutputHead}: value name to the model output that shows it.
 * @throws PeftError TARGETS_NOT_FOUND naming the nearest modules that exist; PATTERN
 * @example
 * targetSites(findSites(model), { targetModules: ["query", "value"] });
 */
export function targetSites(
  sites: readonly Site[],
  config: TargetConfig,
  directOutputs: ReadonlyMap<string, string> = new Map(),
): Site[] {
  const { targetModules, excludeModules, layersToTransform, layersPattern } = config;
  if (targetModules === undefined) return [];
  const layers = list<number>(layersToTransform);
  if (typeof targetModules === "string" && (layers.length > 0 || layersPattern !== undefined)) {
    throw new PeftError("TARGETS_INVALID", "layersToTransform and layersPattern need targetModules to be a list.", {
      hint: "Put the layers into the regular expression.",
    });
  }
  const saved = new Set(savedSites(sites, config));
  const excluded = excludeModules === undefined ? () => false : matcherOf(excludeModules);
  const candidates = sites.filter((site) => !saved.has(site) && !excluded(site.name));
  if (typeof targetModules === "string" && targetModules.toLowerCase() === "all-linear") {
    return candidates.filter((site) => site.kind === "linear" && !isOutputHead(site, directOutputs));
  }
  const matches = matcherOf(targetModules);
  const patterns = list<string>(layersPattern);
  const inLayers = (name: string): boolean => {
    if (layers.length === 0 || list(targetModules).includes(name)) return true;
    const found = layerOf(name, patterns);
    return found !== null && layers.includes(found);
  };
  const named = (naming: Naming): Site[] => {
    const names = namesIn(
      sites.map((site) => site.name),
      naming,
    );
    const fits = new Set(sites.filter((_, i) => matches(names[i] ?? "") && inLayers(names[i] ?? "")));
    const found = candidates.filter((site) => fits.has(site));
    // Parameters of experts are no modules; where nothing else is meant the choice is refused with a reason.
    const modules = found.filter(({ kind }) => kind !== "experts");
    return modules.length > 0 ? modules : found;
  };
  // Names of another generation of transformers count where those of the file choose nothing.
  const chosen = (["file", "transformers-4", "transformers-5"] as const).reduce<Site[]>(
    (found, naming) => (found.length > 0 ? found : named(naming)),
    [],
  );
  if (chosen.length === 0 && targetModules.length > 0) {
    throw nothingFound(
      "targetModules",
      list(targetModules),
      sites.map((s) => s.name),
    );
  }
  return chosen;
}

/** What of a config chose a module: the longest of the endings that fit, or the expression. */
export function targetOf(name: string, { targetModules }: TargetConfig): { readonly target?: string } {
  if (targetModules === undefined) return {};
  if (typeof targetModules === "string") {
    return targetModules.toLowerCase() === "all-linear" ? {} : { target: targetModules };
  }
  const fitting = targetModules.filter((ending) => isNamed(name, [ending]));
  const [target] = fitting.sort((a, b) => b.length - a.length);
  return target === undefined ? {} : { target };
}

function nothingFound(field: string, wanted: readonly string[], available: readonly string[]): PeftError {
  const endings = [...new Set(available.flatMap((name) => [name.split(".").at(-1) ?? name, name]))];
  const near = [...new Set(wanted.slice(0, 8).flatMap((name) => nearestName(name, endings) ?? []))].slice(0, 5);
  const shown = near.length > 0 ? `Did you mean ${near.map((n) => `"${n}"`).join(", ")}?` : "";
  const sample = available.slice(0, 8).join(", ");
  return new PeftError(
    "TARGETS_NOT_FOUND",
    `No ${field === "targetParameters" ? "parameter of experts" : "module"} of the model fits ${field} ${JSON.stringify(wanted.slice(0, 8))}. ${shown}`.trim(),
    {
      hint: available.length > 0 ? `There are for example: ${sample}.` : "There are none at all.",
      details: { field, wanted: wanted.slice(0, 100), near },
    },
  );
}

/**
 * Value of a field for one module, as peft's rank_pattern and alpha_pattern give it: the first key that matches
 * `(.*\.)?(key)$`, else the default.
 */
export function patternValue(pattern: Readonly<Record<string, number>>, name: string, fallback: number): number {
  for (const [key, value] of Object.entries(pattern)) {
    if (compilePattern(`(.*\\.)?(${key})`)(name)) return value;
  }
  return fallback;
}
