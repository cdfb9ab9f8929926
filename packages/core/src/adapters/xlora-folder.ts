import { PeftError } from "../errors.ts";
import { readPeftFolder } from "../formats/peft/read-folder.ts";
import { writePeftFolder } from "../formats/peft/write-folder.ts";
import type { AdapterTensor } from "../methods/method.ts";
import { type XloraConfig, xlora } from "../methods/xlora.ts";
import type { Adapter } from "./adapter.ts";
import { moduleExperts, stackedFactors } from "./expert-values.ts";
import { loraFromFactors } from "./lora-from-factors.ts";
import { fromPeft, toPeft } from "./peft-files.ts";
import type { AdapterConfig, AdapterConfigInput } from "./select.ts";
import { parseAdapterConfig } from "./select.ts";
import { xloraConfigOf } from "./xlora.ts";

const classifierPrefix = "base_model.internal_xlora_classifier.";

/** Folder inside, or elsewhere, of every expert by name. */
type Places = Readonly<Record<string, string>>;

async function readExpert(folder: string, name: string, index: number, places: Places | undefined): Promise<Adapter> {
  const given = places?.[name];
  if (given !== undefined) return fromPeft(await readPeftFolder(given));
  if (places) throw new PeftError("NO_EXPERTS", `Expected a folder for the expert "${name}", received none.`);
  // peft writes experts under their numbers; repositories have them under their names.
  for (const subfolder of [name, `${index}`]) {
    try {
      return fromPeft(await readPeftFolder(folder, { subfolder }));
    } catch (error) {
      if (!PeftError.isInstance(error) || error.code !== "FILE_MISSING") throw error;
    }
  }
  throw new PeftError(
    "NO_EXPERTS",
    `Expected the expert "${name}" in ${folder}, in a folder "${name}" or "${index}".`,
    {
      hint: "Say where the experts are: readXloraFolder(folder, { experts: { name: path } }). Paths in the config are not followed.",
    },
  );
}

/**
 * An X-LoRA out of a folder of Hugging Face `peft`: the classifier in `adapter_model.safetensors`, the experts in LoRA folders inside, by
 * name or number, or where `experts` says. Its options come from the config; that of `adapters` names the experts.
 * @throws PeftError those of {@link readPeftFolder}; NOT_XLORA, NO_EXPERTS, NOT_LORA, EXPERT_HEAD; ADAPTER_MISMATCH without a classifier
 * @example
 * const adapter = await readXloraFolder("x-lora");
 */
export async function readXloraFolder(folder: string, options: { readonly experts?: Places } = {}): Promise<Adapter> {
  const { config, tensors } = await readPeftFolder(folder);
  if (config["peft_type"] !== xlora.type) {
    throw new PeftError(
      "NOT_XLORA",
      `Expected an X-LoRA in ${folder}, received ${JSON.stringify(config["peft_type"])}.`,
    );
  }
  const classifier = new Map([...tensors].filter(([name]) => name.startsWith(classifierPrefix)));
  if (classifier.size === 0) {
    throw new PeftError("ADAPTER_MISMATCH", `Expected the tensors of a classifier in ${folder}, found none.`, {
      hint: "peft 0.21 leaves out layers of the classifier that have the number of an expert when it saves: keep its state dict beside.",
    });
  }
  const read = fromPeft({ config, tensors: classifier });
  const { adapters, r: _r, targetModules: _modules, ...own } = read.config as AdapterConfig<XloraConfig>;
  const experts: Record<string, Adapter> = {};
  for (const [i, name] of Object.keys(adapters).entries())
    experts[name] = await readExpert(folder, name, i, options.experts);
  const values = new Map<string, AdapterTensor>();
  const modules = moduleExperts(Object.values(experts));
  const merged = xloraConfigOf(experts, own as AdapterConfigInput<XloraConfig> & Pick<XloraConfig, "hiddenSize">);
  const rank = merged.r ?? 1;
  for (const module of modules) {
    const { A, B } = stackedFactors(module, rank);
    const count = module.list.length;
    values.set(`${module.module}.${xlora.keys["A"]}`, { dims: [count, rank, A.length / (count * rank)], data: A });
    values.set(`${module.module}.${xlora.keys["B"]}`, { dims: [count, B.length / (count * rank), rank], data: B });
  }
  return {
    type: xlora.type,
    config: parseAdapterConfig(xlora, merged),
    tensors: new Map([...values, ...read.tensors]),
    ...(read.otherFields ? { otherFields: read.otherFields } : {}),
  };
}

/** Expert `index` as a LoRA adapter. */
function expertOf({ config, tensors }: Adapter, index: number): Adapter {
  const ending = `.${xlora.keys["A"]}`;
  const sites = [...tensors].flatMap(([name, A]) => {
    if (!name.endsWith(ending)) return [];
    const site = name.slice(0, -ending.length);
    const B = tensors.get(`${site}.${xlora.keys["B"]}`);
    if (!B) throw new PeftError("ADAPTER_MISMATCH", `"${site}" has one of the two factors of its experts.`);
    const part = ({ dims: [, ...dims], data }: AdapterTensor): AdapterTensor => {
      const size = dims.reduce((a, b) => a * b, 1);
      return { dims, data: data.slice(index * size, (index + 1) * size) };
    };
    const factors = new Map([
      [`${site}.lora_A.weight`, part(A)],
      [`${site}.lora_B.weight`, part(B)],
    ]);
    return [{ site, rank: A.dims[1] ?? 0, tensors: factors }];
  });
  const { targetModules: _, modulesToSave: _saved, ...rest } = commonOf(config);
  return loraFromFactors(sites, rest);
}

/** The options of an X-LoRA that are not its own. */
function commonOf(config: Readonly<Record<string, unknown>>): AdapterConfigInput {
  const own = new Set(Object.keys((xlora.config as unknown as { shape: object }).shape));
  return Object.fromEntries(Object.entries(config).filter(([name]) => !own.has(name))) as AdapterConfigInput;
}

/**
 * Writes an X-LoRA as `peft` lays it out: the classifier and its options in the folder, every expert as a LoRA adapter in a folder of its name
 * inside. There: config = PeftConfig.from_pretrained(folder), config.adapters = {"0": path of the first, "1": ...} (peft 0.21 wants experts to
 * be called by their numbers), PeftModel.from_pretrained(base, folder, config=config).
 * @throws PeftError NOT_XLORA; those of {@link writePeftFolder}
 * @example
 * await writeXloraFolder("x-lora", adapter);
 */
export async function writeXloraFolder(folder: string, adapter: Adapter): Promise<void> {
  if (adapter.type !== xlora.type) {
    throw new PeftError("NOT_XLORA", `Expected an X-LoRA, received a ${adapter.type} adapter.`);
  }
  const { adapters } = adapter.config as AdapterConfig<XloraConfig>;
  const names = Object.keys(adapters);
  const { config, tensors } = toPeft(adapter);
  const { r: _r, target_modules: _modules, hidden_state: hiddenState, ...fields } = config;
  await writePeftFolder(
    folder,
    {
      config: {
        ...fields,
        ...(hiddenState ? { hidden_state: hiddenState } : {}),
        adapters: Object.fromEntries(names.map((name) => [name, name])),
      },
      tensors: new Map([...tensors].filter(([name]) => name.startsWith(classifierPrefix))),
    },
    Object.fromEntries(names.map((name, i) => [name, toPeft(expertOf(adapter, i))])),
  );
}
