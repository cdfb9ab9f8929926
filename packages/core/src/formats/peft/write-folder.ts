import { mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { atomicWriteFolder } from "../../checkpoint/atomic-write.ts";
import { PeftError } from "../../errors.ts";
import type { TensorData } from "../../onnx/ir.ts";
import { writeSafetensors } from "../safetensors/write.ts";
import { checkAdapterConfig } from "./adapter-config.ts";
import { type PeftCard, peftCard } from "./card.ts";
import { addPeftPrefix } from "./keys.ts";
import { configFile, weightsFile } from "./read-folder.ts";

const cardFile = "README.md";
const ownFiles = new Set([configFile, weightsFile, cardFile]);

/**
 * Replacing a folder removes what is in it, so only what this module wrote itself may be there.
 * @param inner names of folders inside, which are replaced too
 */
async function checkReplaceable(folder: string, inner: readonly string[]): Promise<void> {
  let entries: string[];
  try {
    entries = await readdir(folder);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return;
    throw new PeftError("WRITE_FAILED", `could not write ${folder}: ${message}.`, { cause });
  }
  for (const name of entries) if (inner.includes(name)) await checkReplaceable(join(folder, name), []);
  const foreign = entries.filter((name) => !ownFiles.has(name) && !inner.includes(name));
  if (foreign.length === 0) return;
  throw new PeftError(
    "FOLDER_NOT_REPLACEABLE",
    `expected no folder, or only an adapter's files, at ${folder}, found ${foreign.slice(0, 5).join(", ")}.`,
    { hint: "An adapter folder is replaced as a whole: choose a folder of its own." },
  );
}

/** Keys sorted as `peft` sorts them, so that equal configs give equal files. */
function configText(config: Readonly<Record<string, unknown>>): string {
  const sorted = Object.keys(config).sort();
  return `${JSON.stringify(Object.fromEntries(sorted.map((key) => [key, config[key]])), null, 2)}\n`;
}

/** An adapter to write. */
export interface PeftFolderInput {
  /** snake_case fields with `peft_type`; written as given after a check. What is left out takes the default of the `peft` version that reads it. */
  readonly config: Readonly<Record<string, unknown>>;
  /** By name without prefix, see `keys.ts`; with `modules_to_save` or a task type, every module of {@link savedModules} must be there. */
  readonly tensors: ReadonlyMap<string, TensorData>;
  readonly card?: PeftCard;
}

/** A name of a folder inside another one. */
function checkName(name: string): void {
  if (/^[\w-][\w.-]{0,199}$/.test(name)) return;
  throw new PeftError(
    "PATH_OUTSIDE_FOLDER",
    `expected a folder name of letters, digits, "_", "-" and ".", received ${JSON.stringify(name.slice(0, 80))}.`,
  );
}

/**
 * Writes an adapter folder that Hugging Face `peft` loads: `adapter_config.json`, `adapter_model.safetensors` (names get
 * `base_model.model.` before them) and a card `README.md`. The folder appears as a whole or not at all; one written
 * before is replaced as a whole. Missing parent folders are made.
 *
 * @param inner Adapters in folders of their own inside, by name: the experts of an X-LoRA.
 * @throws PeftError PEFT_CONFIG_INVALID, SAFETENSORS_UNWRITABLE, FOLDER_NOT_REPLACEABLE, PATH_OUTSIDE_FOLDER, WRITE_FAILED
 * @example
 * await writePeftFolder("adapter", { config: { peft_type: "LORA", r: 8, target_modules: ["query"] }, tensors });
 */
export async function writePeftFolder(
  folder: string,
  adapter: PeftFolderInput,
  inner: Readonly<Record<string, PeftFolderInput>> = {},
): Promise<void> {
  const names = Object.keys(inner);
  names.forEach(checkName);
  const parts = [["", adapter], ...Object.entries(inner)] as const;
  const texts = parts.map(([name, { config, tensors, card }]) => {
    checkAdapterConfig(config, "the config to write");
    return { name, tensors, text: configText(config), readme: peftCard(config, tensors, card) };
  });
  await checkReplaceable(folder, names);
  await mkdir(dirname(resolve(folder)), { recursive: true });
  await atomicWriteFolder(folder, async (temporary) => {
    for (const { name, tensors, text, readme } of texts) {
      const place = join(temporary, name);
      await mkdir(place, { recursive: true });
      // transformers looks for this field before it loads a file.
      await writeSafetensors(join(place, weightsFile), [...addPeftPrefix(tensors)], { format: "pt" });
      await writeFile(join(place, configFile), text);
      await writeFile(join(place, cardFile), readme);
    }
  });
}
