import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const backbone = fileURLToPath(new URL("../../../apps/examples/models/wordnet-bert", import.meta.url));
const folder = fileURLToPath(new URL("../../../runs/claims/two-layer-encoder", import.meta.url));

/** The embedded backbone's first two layers of four, without dropout, as a checkpoint of its own. Returns its folder. */
export async function twoLayerEncoder(): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const file of ["model.safetensors", "tokenizer.json", "tokenizer_config.json"])
    await cp(join(backbone, file), join(folder, file));
  const config = JSON.parse(await readFile(join(backbone, "config.json"), "utf8")) as Record<string, unknown>;
  const changed = { ...config, num_hidden_layers: 2, hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 };
  await writeFile(join(folder, "config.json"), JSON.stringify(changed));
  return folder;
}
