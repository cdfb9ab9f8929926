import { existsSync, statSync } from "node:fs";
import { mkdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { downloadFileToCacheDir, getHFHubCachePath, listFiles, modelInfo } from "@huggingface/hub";
import { atomicWrite, PeftError } from "@onnx-peft/core";

/** Where a model comes from. */
export interface ModelSource {
  /** A folder in the Hugging Face layout, or the id of a model on the hub ("owner/name"). */
  readonly model: string;
  /** Branch, tag or commit on the hub; default "main". Name a commit to get the same bytes for ever. */
  readonly revision?: string;
  /** Hub access token for private models. */
  readonly accessToken?: string;
  /** Which ONNX file of an export to take; default "onnx/model.onnx", where the folder has no safetensors. */
  readonly onnxFile?: string;
}

export const DEFAULT_ONNX_FILE = "onnx/model.onnx";

/** How the hub is reached; other values are for tests. */
export interface HubAccess {
  readonly fetch: typeof fetch;
  readonly cacheFolder: string;
  /** Limit of a question about a model; downloads have none, as weights may take an hour. Default 20,000. */
  readonly questionMs?: number;
}

const COMMIT = /^[0-9a-f]{40}$/;

const smallFiles = new Set([
  ...["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
  ...["vocab.txt", "vocab.json", "merges.txt"],
]);
const checkpointFile = /^model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/;

/**
 * The folder of a model: a local one as it is, a hub model through the Hugging Face cache that Python uses too. Fetched are
 * config, tokenizer and safetensors, or the ONNX file when there are none or `onnxFile` names one. A model that was fetched
 * before is found without a connection; a branch is then what it was the last time.
 * @throws PeftError MODEL_NOT_FOUND
 */
export async function modelFolder(
  source: ModelSource,
  access: HubAccess = { fetch, cacheFolder: getHFHubCachePath() },
): Promise<string> {
  const local = resolve(source.model);
  if (existsSync(local) && statSync(local).isDirectory()) return local;
  if (!/^[\w.-]+\/[\w.-]+$/.test(source.model)) {
    throw new PeftError("MODEL_NOT_FOUND", `"${source.model}" is neither a folder nor a hub model id (owner/name).`);
  }
  try {
    return await fetchModel(source, access);
  } catch (cause) {
    if (PeftError.isInstance(cause)) throw cause;
    const answered = typeof cause === "object" && cause !== null && "statusCode" in cause;
    const cached = answered ? null : await cachedFolder(source, access);
    if (cached !== null) return cached;
    throw new PeftError(
      "MODEL_NOT_FOUND",
      `"${source.model}" is no local folder and could not be fetched from the hub: ${reasonOf(cause)}.`,
      { hint: "Check the id, your connection and, for private models, the access token.", cause },
    );
  }
}

/** "fetch failed" alone helps nobody: what is behind it says which name or address did not answer. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const inner = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  return `${error.message}${inner}`;
}

const storageOf = ({ model }: ModelSource, { cacheFolder }: HubAccess): string =>
  join(cacheFolder, `models--${model.replace("/", "--")}`);

/** Downloads what is wanted of one commit, so that files of two versions are never mixed. */
async function fetchModel(source: ModelSource, access: HubAccess): Promise<string> {
  const { revision = "main", accessToken } = source;
  const common = { repo: source.model, ...(accessToken === undefined ? {} : { accessToken }) };
  const { questionMs = 20_000 } = access;
  const ask: typeof fetch = (url, init) => access.fetch(url, { ...init, signal: AbortSignal.timeout(questionMs) });
  const { repo: name, ...credentials } = common;
  const { sha } = await modelInfo({ name, revision, additionalFields: ["sha"], fetch: ask, ...credentials });
  const files: string[] = [];
  for await (const { type, path } of listFiles({ ...common, revision: sha, recursive: true, fetch: ask })) {
    if (type === "file") files.push(path);
  }
  if (!files.includes("config.json")) {
    throw new PeftError("MODEL_NOT_FOUND", `The hub model "${source.model}" has no config.json.`);
  }
  const folder = join(storageOf(source, access), "snapshots", sha);
  for (const path of wantedFiles(files, source.onnxFile)) {
    await downloadFileToCacheDir({
      ...common,
      path,
      revision: sha,
      cacheDir: access.cacheFolder,
      fetch: access.fetch,
    });
  }
  if (revision !== sha) {
    const ref = join(storageOf(source, access), "refs", revision);
    await mkdir(dirname(ref), { recursive: true });
    await atomicWrite(ref, sha);
  }
  return folder;
}

function wantedFiles(files: readonly string[], onnxFile: string | undefined): string[] {
  const useOnnx = onnxFile !== undefined || !files.some((path) => checkpointFile.test(path));
  const onnx = onnxFile ?? DEFAULT_ONNX_FILE;
  // Large exports keep their weights beside the graph: "<name>_data", then "<name>_data_1" and so on.
  const isWeights = useOnnx
    ? (path: string) => path === onnx || path.startsWith(`${onnx}_data`)
    : (path: string) => checkpointFile.test(path);
  return files.filter((path) => smallFiles.has(path) || isWeights(path));
}

/** What an earlier call, or Python, left in the cache; null when there is nothing. */
async function cachedFolder(source: ModelSource, access: HubAccess): Promise<string | null> {
  const { revision = "main" } = source;
  const storage = storageOf(source, access);
  try {
    const commit = COMMIT.test(revision) ? revision : (await readFile(join(storage, "refs", revision), "utf8")).trim();
    if (!COMMIT.test(commit)) return null;
    const folder = join(storage, "snapshots", commit);
    await stat(join(folder, "config.json"));
    return folder;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/**
 * Where the files of a snapshot in the shared Hugging Face cache really lie: `<model>/snapshots/<commit>/` consists of
 * links into `<model>/blobs/`. Empty for other folders.
 */
export function cacheBlobs(folder: string): string[] {
  const [snapshots, blobs] = [resolve(folder, ".."), resolve(folder, "../../blobs")];
  return basename(snapshots) === "snapshots" && existsSync(blobs) ? [blobs] : [];
}
