import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { atomicWrite, atomicWriteFolder, isTemporaryName, recoverFolder } from "./atomic-write.ts";

/** Lets a test make chosen renames fail as a full or broken disk does. */
const disk = vi.hoisted(() => ({ refuses: (_from: string, _to: string): boolean => false }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const rename = async (from: string, to: string): Promise<void> => {
    if (disk.refuses(from, to)) throw Object.assign(new Error("EIO: broken"), { code: "EIO", syscall: "rename" });
    await real.rename(from, to);
  };
  return { ...real, rename };
});

let folder: string;
beforeEach(() => {
  disk.refuses = () => false;
  folder = mkdtempSync(join(tmpdir(), "atomic-write-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const names = (): string[] => readdirSync(folder).sort();
const visible = (): string[] => names().filter((name) => !isTemporaryName(name));

test("writes text, bytes and pieces, and leaves nothing else", async () => {
  await atomicWrite(join(folder, "text"), "grün");
  await atomicWrite(join(folder, "bytes"), Uint8Array.of(1, 2, 3));
  await atomicWrite(
    join(folder, "pieces"),
    (async function* () {
      yield Uint8Array.of(4);
      yield new Uint8Array(0);
      yield Uint8Array.of(5, 6);
    })(),
  );
  expect(names()).toEqual(["bytes", "pieces", "text"]);
  expect(readFileSync(join(folder, "text"), "utf8")).toBe("grün");
  expect([...readFileSync(join(folder, "bytes"))]).toEqual([1, 2, 3]);
  expect([...readFileSync(join(folder, "pieces"))]).toEqual([4, 5, 6]);
});

test("replaces a file and keeps its mode; a link stays a link", async () => {
  const path = join(folder, "file");
  writeFileSync(path, "old");
  chmodSync(path, 0o640);
  symlinkSync("file", join(folder, "link"));
  await atomicWrite(join(folder, "link"), "new");
  expect(readFileSync(path, "utf8")).toBe("new");
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect(names()).toEqual(["file", "link"]);
});

test("a source that throws leaves the old file and no temporary one", async () => {
  const path = join(folder, "file");
  writeFileSync(path, "old");
  const failing = (async function* () {
    yield Uint8Array.of(1);
    throw new RangeError("mine");
  })();
  await expect(atomicWrite(path, failing)).rejects.toThrow(RangeError);
  expect(readFileSync(path, "utf8")).toBe("old");
  expect(names()).toEqual(["file"]);
});

test("errors of the file system carry a code and name the path", async () => {
  const path = join(folder, "missing", "file");
  await expect(atomicWrite(path, "x")).rejects.toMatchObject({ code: "WRITE_FAILED" });
  await expect(atomicWrite(path, "x")).rejects.toThrow(path);
  mkdirSync(join(folder, "taken"));
  await expect(atomicWrite(join(folder, "taken"), "x")).rejects.toMatchObject({ code: "WRITE_FAILED" });
  expect(names()).toEqual(["taken"]);
});

test("a folder appears whole and replaces the old one whole", async () => {
  const path = join(folder, "run");
  await atomicWriteFolder(path, async (temporary) => {
    await writeFile(join(temporary, "a"), "1");
    expect(visible()).toEqual([]);
  });
  expect(readdirSync(path)).toEqual(["a"]);
  await atomicWriteFolder(path, async (temporary) => {
    await writeFile(join(temporary, "b"), "2");
    expect(readdirSync(path)).toEqual(["a"]);
  });
  expect(readdirSync(path)).toEqual(["b"]);
  expect(names()).toEqual(["run"]);
});

test("a folder whose writer throws, or whose exchange fails, keeps the old content", async () => {
  const path = join(folder, "run");
  mkdirSync(path);
  writeFileSync(join(path, "a"), "1");
  await expect(atomicWriteFolder(path, () => Promise.reject(new RangeError("mine")))).rejects.toThrow(RangeError);
  expect(names()).toEqual(["run"]);
  disk.refuses = (from, to) => from.endsWith(".tmp") && to === path;
  const exchanged = atomicWriteFolder(path, (temporary) => writeFile(join(temporary, "b"), "2"));
  await expect(exchanged).rejects.toMatchObject({ code: "WRITE_FAILED" });
  expect(readdirSync(path)).toEqual(["a"]);
  expect(names()).toEqual(["run"]);
});

test("a file is not replaced by a folder", async () => {
  writeFileSync(join(folder, "run"), "file");
  const written = atomicWriteFolder(join(folder, "run"), async () => undefined);
  await expect(written).rejects.toMatchObject({ code: "TARGET_NOT_A_FOLDER" });
  expect(readFileSync(join(folder, "run"), "utf8")).toBe("file");
});

test("what was moved aside is put back, the latest first, and only when the folder is missing", async () => {
  const path = join(folder, "run");
  mkdirSync(join(folder, ".run.0123456789abcdef.old"));
  writeFileSync(join(folder, ".run.0123456789abcdef.old", "a"), "1");
  mkdirSync(join(folder, ".runner.0123456789abcdef.old"));
  expect(await recoverFolder(path)).toBe(true);
  expect(readFileSync(join(path, "a"), "utf8")).toBe("1");
  expect(await recoverFolder(path)).toBe(false);
  expect(await recoverFolder(join(folder, "nowhere", "run"))).toBe(false);
});

/** Runs `body` in another process; it must print a line when it is in the middle of its work. */
async function inChild(body: string): Promise<ChildProcess> {
  const module = fileURLToPath(new URL("./atomic-write.ts", import.meta.url));
  const code = `
    import { build } from "vite";
    import { writeFile } from "node:fs/promises";
    import { join } from "node:path";
    const built = await build({ configFile: false, logLevel: "silent", build: { write: false, ssr: ${JSON.stringify(module)}, target: "node20" } });
    const { atomicWrite, atomicWriteFolder } = await import("data:text/javascript," + encodeURIComponent(built.output[0].code));
    ${body}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
    cwd: fileURLToPath(new URL("../../../..", import.meta.url)),
  });
  await once(child.stdout as NodeJS.EventEmitter, "data");
  return child;
}

test("SIGKILL in the middle of a file: the old one is intact, nothing half-written under its name", async () => {
  const path = join(folder, "file");
  writeFileSync(path, "old");
  const child = await inChild(`
    await atomicWrite(${JSON.stringify(path)}, (async function* () {
      yield new Uint8Array(1 << 20);
      console.log("half");
      await new Promise((resolve) => setTimeout(resolve, 60_000));
      yield new Uint8Array(1 << 20);
    })());`);
  const half = names().filter(isTemporaryName);
  expect(half).toHaveLength(1);
  expect(statSync(join(folder, half[0]!)).size).toBe(1 << 20);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(readFileSync(path, "utf8")).toBe("old");
  expect(visible()).toEqual(["file"]);
  await atomicWrite(path, "new");
  expect(readFileSync(path, "utf8")).toBe("new");
});

test("SIGKILL in the middle of a folder: the old one is intact; with none before, none appears", async () => {
  const path = join(folder, "run");
  mkdirSync(path);
  writeFileSync(join(path, "a"), "1");
  const body = (target: string): string => `
    await atomicWriteFolder(${JSON.stringify(target)}, async (folder) => {
      await writeFile(join(folder, "b"), "2");
      console.log("half");
      await new Promise((resolve) => setTimeout(resolve, 60_000));
    });`;
  for (const target of [path, join(folder, "fresh")]) {
    const child = await inChild(body(target));
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  expect(visible()).toEqual(["run"]);
  expect(readdirSync(path)).toEqual(["a"]);
});
