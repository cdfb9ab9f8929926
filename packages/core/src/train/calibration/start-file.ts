import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { atomicWriteFolder, recoverFolder } from "../../checkpoint/atomic-write.ts";
import { parseConfig } from "../../config/parse-config.ts";
import { PeftError } from "../../errors.ts";
import { readSafetensors } from "../../formats/safetensors/read.ts";
import { writeSafetensors } from "../../formats/safetensors/write.ts";
import { tensorFrom, toFloat32Array } from "../../onnx/tensor.ts";

/** What a kept start was made for, and the options that came out. */
const startFile = z.strictObject({
  format: z.literal(1),
  madeFor: z.unknown(),
  config: z.record(z.string(), z.unknown()),
});

interface KeptStart {
  readonly config: Readonly<Record<string, unknown>>;
  readonly values: ReadonlyMap<string, Float32Array>;
}

const [DESCRIPTION, VALUES] = ["start.json", "start.safetensors"] as const;
const folderOf = (folder: string): string => join(folder, "start");

/** As it comes back from a file. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value)) as unknown;

/**
 * The start that a folder holds, or null.
 * @param madeFor plain JSON; what must be equal for it to be taken.
 * @throws PeftError RESUME_MISMATCH, CHECKPOINT_INVALID, CONFIG_INVALID, SAFETENSORS_INVALID
 */
export async function readStart(folder: string, madeFor: object): Promise<KeptStart | null> {
  const path = folderOf(folder);
  await recoverFolder(path);
  const description = join(path, DESCRIPTION);
  if (!existsSync(description)) return null;
  let value: unknown;
  try {
    value = JSON.parse(await readFile(description, "utf8"));
  } catch (cause) {
    throw new PeftError("CHECKPOINT_INVALID", `expected a start in JSON at ${description}: ${String(cause)}.`, {
      hint: "Delete the folder to make it again.",
      cause,
    });
  }
  const kept = parseConfig(startFile, value, description);
  if (!isDeepStrictEqual(kept.madeFor, plain(madeFor))) {
    throw new PeftError(
      "RESUME_MISMATCH",
      `expected the method, options and seed of the start in ${path}, received others.`,
      {
        hint: "Use another folder, or delete this one to start again.",
        details: { saved: kept.madeFor, now: plain(madeFor) },
      },
    );
  }
  const { tensors } = await readSafetensors(join(path, VALUES));
  return { config: kept.config, values: new Map(Array.from(tensors, ([name, t]) => [name, toFloat32Array(t)])) };
}

/** Keeps a start in a folder, replaced as a whole. @throws PeftError WRITE_FAILED */
export async function writeStart(
  folder: string,
  madeFor: object,
  { config, values }: { readonly config: object; readonly values: ReadonlyMap<string, Float32Array> },
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await atomicWriteFolder(folderOf(folder), async (path) => {
    const tensors = new Map(Array.from(values, ([name, v]) => [name, tensorFrom("float32", [v.length], v)]));
    await writeSafetensors(join(path, VALUES), tensors);
    await writeFile(join(path, DESCRIPTION), JSON.stringify({ format: 1, madeFor, config }));
  });
}
