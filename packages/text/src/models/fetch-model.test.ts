import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test, vi } from "vitest";
import { modelFolder } from "./fetch-model.ts";

const root = mkdtempSync(join(tmpdir(), "onnx-peft-hub-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let cacheFolder = "";
let count = 0;
beforeEach(() => {
  vi.spyOn(console, "debug").mockImplementation(() => {}); // the hub library reports downloads there
  cacheFolder = join(root, String(count++));
});

const sha = "0123456789abcdef0123456789abcdef01234567";
const model = "somebody/tiny";

/** The answers of the hub for one model, and what it was asked for. */
function fakeHub(files: Record<string, string>) {
  const downloads: string[] = [];
  const answer = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const { pathname } = new URL(String(input));
    if (!pathname.includes(model)) return Response.json({ error: "Repository not found" }, { status: 404 });
    if (pathname.startsWith(`/api/models/${model}/revision/`)) return Response.json({ _id: "1", id: model, sha });
    const listed = Object.entries(files).map(([path, text]) => ({
      type: "file",
      path,
      size: text.length,
      oid: `oid-${path.replace(/\W/g, "-")}`,
    }));
    if (pathname.startsWith(`/api/models/${model}/tree/`)) return Response.json(listed);
    if (pathname.startsWith(`/api/models/${model}/paths-info/`)) {
      const { paths } = JSON.parse(String(init?.body)) as { paths: string[] };
      return Response.json(listed.filter(({ path }) => paths.includes(path)));
    }
    const path = pathname.slice(`/${model}/resolve/${sha}/`.length);
    const text = files[path] ?? "";
    const range = new Headers(init?.headers).get("Range");
    if (range !== "bytes=0-0") downloads.push(path);
    const body = range === "bytes=0-0" ? text.slice(0, 1) : text;
    return new Response(body, {
      headers: { ETag: `"${path}"`, "Content-Range": `bytes 0-${body.length - 1}/${text.length}` },
    });
  };
  return { fetch: answer as typeof fetch, downloads };
}
const offline = (async () => {
  throw new TypeError("fetch failed", { cause: new Error("getaddrinfo ENOTFOUND huggingface.co") });
}) as typeof fetch;

test("a local folder is taken as it is, a hub model comes as one commit into the cache", async () => {
  expect(await modelFolder({ model: root }, { fetch: offline, cacheFolder })).toBe(root);
  const hub = fakeHub({
    "config.json": "{}",
    "tokenizer.json": '{"a":1}',
    "model.safetensors": "weights",
    "onnx/model.onnx": "graph",
    "pytorch_model.bin": "pickle",
  });
  const folder = await modelFolder({ model }, { fetch: hub.fetch, cacheFolder });
  expect(folder).toBe(join(cacheFolder, "models--somebody--tiny", "snapshots", sha));
  expect(hub.downloads.sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
  expect(readFileSync(join(folder, "model.safetensors"), "utf8")).toBe("weights");
  // Again, and without a connection: nothing is downloaded.
  expect(await modelFolder({ model }, { fetch: hub.fetch, cacheFolder })).toBe(folder);
  expect(hub.downloads).toHaveLength(3);
  expect(await modelFolder({ model }, { fetch: offline, cacheFolder })).toBe(folder);
  expect(await modelFolder({ model, revision: sha }, { fetch: offline, cacheFolder })).toBe(folder);
});

test("the ONNX file is fetched with its data where there are no safetensors, or when it is named", async () => {
  const files = {
    "config.json": "{}",
    "onnx/model.onnx": "g",
    "onnx/model.onnx_data": "d",
    "onnx/model_fp16.onnx": "h",
  };
  const plain = fakeHub(files);
  await modelFolder({ model }, { fetch: plain.fetch, cacheFolder });
  expect(plain.downloads.sort()).toEqual(["config.json", "onnx/model.onnx", "onnx/model.onnx_data"]);
  const both = fakeHub({ ...files, "model.safetensors": "w", "adapter_model.safetensors": "a" });
  const folder = join(cacheFolder, "named");
  await modelFolder({ model, onnxFile: "onnx/model_fp16.onnx" }, { fetch: both.fetch, cacheFolder: folder });
  expect(both.downloads.sort()).toEqual(["config.json", "onnx/model_fp16.onnx"]);
});

test("a model that is nowhere is named, with the reason", async () => {
  const missing = (source: string, access: typeof fetch) =>
    expect(modelFolder({ model: source }, { fetch: access, cacheFolder })).rejects;
  await missing("no-such-folder", offline).toMatchObject({ code: "MODEL_NOT_FOUND" });
  await missing(model, offline).toThrow(/fetch failed \(getaddrinfo ENOTFOUND/);
  await missing("nobody/nothing", fakeHub({}).fetch).toMatchObject({ code: "MODEL_NOT_FOUND" });
  await missing(model, fakeHub({ "README.md": "x" }).fetch).toThrow(/has no config\.json/);
});

test("a hub that does not answer is given up on", async () => {
  const silent: typeof fetch = (_, init) =>
    new Promise((_resolve, reject) => {
      init?.signal?.addEventListener("abort", () => reject(init.signal?.reason));
    });
  const source = modelFolder({ model }, { fetch: silent, cacheFolder, questionMs: 20 });
  await expect(source).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
  await expect(source).rejects.toThrow(/timeout/);
});

test("what the hub says counts before the cache: a model that was taken away is not found", async () => {
  const storage = join(cacheFolder, "models--nobody--nothing");
  await mkdir(join(storage, "refs"), { recursive: true });
  await mkdir(join(storage, "snapshots", sha), { recursive: true });
  writeFileSync(join(storage, "refs", "main"), sha);
  writeFileSync(join(storage, "snapshots", sha, "config.json"), "{}");
  const source = { model: "nobody/nothing" };
  expect(await modelFolder(source, { fetch: offline, cacheFolder })).toBe(join(storage, "snapshots", sha));
  await expect(modelFolder(source, { fetch: fakeHub({}).fetch, cacheFolder })).rejects.toMatchObject({
    code: "MODEL_NOT_FOUND",
  });
});
