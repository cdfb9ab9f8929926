/**
 * Module names of one architecture in two generations of transformers. Names of generation 4 are those of checkpoints on the
 * hub and of adapters trained with it; generation 5 gave the modules themselves new ones and renames when it loads. A template stands
 * for a whole path: `#` is a layer number, `*` any beginning or end.
 */
interface Family {
  readonly name: string;
  /** All of these must be modules of a model for it to be of the family and the generation... */
  readonly signature: { readonly 4: readonly string[]; readonly 5: readonly string[] };
  /** ...and none of these: other architectures that kept the old names. */
  readonly except?: readonly string[];
  readonly names: readonly (readonly [generation4: string, generation5: string])[];
}

const projections = (from: string, to: string): [string, string][] =>
  (["query", "key", "value"] as const).map((name) => [from + name, `${to}${name[0]}_proj`]);

const families: readonly Family[] = [
  {
    name: "ViT, DeiT, BEiT, AST", // also ViT-MAE, ViT-MSN, I-JEPA, ViViT
    signature: {
      4: ["*encoder.layer.#.attention.attention.query", "*encoder.layer.#.intermediate.dense"],
      5: ["*layers.#.attention.o_proj", "*layers.#.mlp.fc1", "*layers.#.layernorm_before"],
    },
    except: ["class_labels_classifier*", "dpt.*"],
    names: [
      ...projections("*encoder.layer.#.attention.attention.", "*layers.#.attention."),
      ["*encoder.layer.#.attention.output.dense", "*layers.#.attention.o_proj"],
      ["*encoder.layer.#.intermediate.dense", "*layers.#.mlp.fc1"],
      ["*encoder.layer.#.output.dense", "*layers.#.mlp.fc2"],
      ["*encoder.layer.#.layernorm_before", "*layers.#.layernorm_before"],
      ["*encoder.layer.#.layernorm_after", "*layers.#.layernorm_after"],
    ],
  },
  {
    name: "DINOv2",
    signature: {
      4: ["*encoder.layer.#.attention.attention.query", "*encoder.layer.#.mlp.*"],
      5: ["*encoder.layer.#.attention.q_proj", "*encoder.layer.#.mlp.*"],
    },
    names: [
      ...projections("*encoder.layer.#.attention.attention.", "*encoder.layer.#.attention."),
      ["*encoder.layer.#.attention.output.dense", "*encoder.layer.#.attention.o_proj"],
    ],
  },
  {
    name: "Swin",
    signature: {
      4: ["*encoder.layers.#.blocks.#.attention.self.query"],
      5: ["*encoder.layers.#.blocks.#.attention.q_proj"],
    },
    names: [
      ...projections("*encoder.layers.#.blocks.#.attention.self.", "*encoder.layers.#.blocks.#.attention."),
      ["*encoder.layers.#.blocks.#.attention.output.dense", "*encoder.layers.#.blocks.#.attention.o_proj"],
      ["*encoder.layers.#.blocks.#.intermediate.dense", "*encoder.layers.#.blocks.#.mlp.fc1"],
      ["*encoder.layers.#.blocks.#.output.dense", "*encoder.layers.#.blocks.#.mlp.fc2"],
    ],
  },
  {
    name: "SegFormer",
    signature: {
      4: ["*encoder.block.#.#.attention.self.query", "*encoder.patch_embeddings.#.proj"],
      5: ["*stages.#.blocks.#.attention.q_proj", "*stages.#.patch_embeddings.proj"],
    },
    names: [
      ...projections("*encoder.block.#.#.attention.self.", "*stages.#.blocks.#.attention."),
      ["*encoder.block.#.#.attention.self.sr", "*stages.#.blocks.#.attention.sequence_reduction.sequence_reduction"],
      ["*encoder.block.#.#.attention.self.layer_norm", "*stages.#.blocks.#.attention.sequence_reduction.layer_norm"],
      ["*encoder.block.#.#.attention.output.dense", "*stages.#.blocks.#.attention.o_proj"],
      ["*encoder.block.#.#.mlp.dense1", "*stages.#.blocks.#.mlp.fc1"],
      ["*encoder.block.#.#.mlp.dense2", "*stages.#.blocks.#.mlp.fc2"],
      ["*encoder.block.#.#.layer_norm_1", "*stages.#.blocks.#.layernorm_before"],
      ["*encoder.block.#.#.layer_norm_2", "*stages.#.blocks.#.layernorm_after"],
      ["*encoder.block.#.#.*", "*stages.#.blocks.#.*"],
      ["*encoder.patch_embeddings.#.*", "*stages.#.patch_embeddings.*"],
      ["*encoder.layer_norm.#", "*stages.#.layer_norm"],
      ["*decode_head.linear_c.*", "*decode_head.linear_projections.*"],
    ],
  },
  {
    name: "DETR",
    signature: {
      4: [
        "*encoder.layers.#.self_attn.out_proj",
        "*decoder.layers.#.encoder_attn.out_proj",
        "*backbone.conv_encoder.*",
      ],
      5: ["*encoder.layers.#.self_attn.o_proj", "*decoder.layers.#.encoder_attn.o_proj", "*backbone.*"],
    },
    names: [
      ["*backbone.conv_encoder.*", "*backbone.*"],
      ["*layers.#.self_attn.out_proj", "*layers.#.self_attn.o_proj"],
      ["*layers.#.encoder_attn.out_proj", "*layers.#.encoder_attn.o_proj"],
      ["*layers.#.fc1", "*layers.#.mlp.fc1"],
      ["*layers.#.fc2", "*layers.#.mlp.fc2"],
    ],
  },
  {
    name: "GPT-NeoX",
    signature: { 4: ["gpt_neox.*", "embed_out"], 5: ["gpt_neox.*", "lm_head"] },
    names: [["embed_out", "lm_head"]],
  },
  {
    name: "LLaVA", // also Gemma 3, Mistral 3, PaliGemma
    signature: {
      4: ["language_model.model.*", "multi_modal_projector.*"],
      5: ["model.language_model.*", "model.multi_modal_projector.*"],
    },
    names: [
      ["language_model.lm_head", "lm_head"],
      ["language_model.model.*", "model.language_model.*"],
      ["vision_tower.*", "model.vision_tower.*"],
      ["multi_modal_projector.*", "model.multi_modal_projector.*"],
    ],
  },
];

/** A tower of CLIP by itself lost its prefix; every module of it had one. */
const towers = ["vision_model.", "text_model."] as const;

/** How modules are called: as in the file, or as in a generation of transformers. */
export type Naming = "file" | "transformers-4" | "transformers-5";

const escaped = (text: string): string => text.replace(/[.^$+?()[\]{}|\\]/g, "\\$&");

/** "*a.#.b" as an expression with one group for each `*` and `#`. The leading `*` is empty or ends at a dot. */
function expressionOf(template: string): RegExp {
  const body = template
    .split(/(^\*|[*#])/)
    .map((part, i, parts) => {
      if (part === "#") return "(\\d+)";
      if (part !== "*") return escaped(part);
      return parts.slice(0, i).join("") === "" ? "((?:.*\\.)?)" : "(.+)";
    })
    .join("");
  return new RegExp(`^${body}$`);
}

const expressions = new Map<string, RegExp>();
const matching = (template: string): RegExp => {
  const known = expressions.get(template) ?? expressionOf(template);
  expressions.set(template, known);
  return known;
};

/** What `to` is where `from` matches, or null. */
function replaced(name: string, from: string, to: string): string | null {
  const groups = matching(from).exec(name)?.slice(1);
  if (!groups) return null;
  let next = 0;
  return to.replace(/[*#]/g, () => groups[next++] ?? "");
}

function isOf(family: Family, generation: 4 | 5, names: readonly string[]): boolean {
  const has = (template: string): boolean => names.some((name) => matching(template).test(name));
  return family.signature[generation].every(has) && !(family.except ?? []).some(has);
}

/** Names of a model's modules in a generation of transformers; those that were never renamed stay. */
export function namesIn(names: readonly string[], naming: Naming): string[] {
  if (naming === "file") return [...names];
  const [own, wanted] = naming === "transformers-5" ? ([4, 5] as const) : ([5, 4] as const);
  const family = families.find((f) => isOf(f, own, names));
  if (!family) return tower(names, naming);
  return names.map((name) => {
    for (const pair of family.names) {
      const [from, to] = wanted === 5 ? pair : [pair[1], pair[0]];
      const found = replaced(name, from, to);
      if (found !== null) return found;
    }
    return name;
  });
}

function tower(names: readonly string[], naming: "transformers-4" | "transformers-5"): string[] {
  const prefix = towers.find((p) => names.every((name) => name.startsWith(p)));
  if (naming === "transformers-5") return prefix ? names.map((name) => name.slice(prefix.length)) : [...names];
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  if (!has(/^encoder\.layers\.\d+\.self_attn\.out_proj$/)) return [...names];
  const missing = has(/^embeddings\.patch_embedding$/)
    ? towers[0]
    : has(/^embeddings\.token_embedding$/)
      ? towers[1]
      : "";
  return names.map((name) => missing + name);
}

/** Sites under the names of a generation of transformers. */
export function renameSites<S extends { readonly name: string }>(sites: readonly S[], naming: Naming): S[] {
  const renamed = namesIn(
    sites.map((site) => site.name),
    naming,
  );
  return sites.map((site, i) => ({ ...site, name: renamed[i] ?? site.name }));
}

/** The naming under which most of the given modules exist, the file's own first. */
export function namingOf(names: readonly string[], modules: readonly string[]): Naming {
  const count = (naming: Naming): number => {
    const known = new Set(namesIn(names, naming));
    return modules.reduce((sum, module) => sum + (known.has(module) ? 1 : 0), 0);
  };
  const counted = (["file", "transformers-4", "transformers-5"] as const).map(
    (naming) => [naming, count(naming)] as const,
  );
  return counted.reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
}
