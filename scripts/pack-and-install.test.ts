import { execFile } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const windows = process.platform === "win32";
const run = promisify(execFile);
// What an install script of a dependency would download is of no use here: see "GPUs" in the README.
const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" };

const npm = (cwd: string, ...args: string[]) =>
  run(windows ? "npm.cmd" : "npm", args, { cwd, env, shell: windows, maxBuffer: 2 ** 26 });

interface Packed {
  readonly name: string;
  readonly folder: string;
  readonly tarball: string;
  readonly files: readonly string[];
}

let consumer = "";
const packages: Packed[] = [];

async function pack(folder: string): Promise<Packed> {
  const { stdout } = await npm(folder, "pack", "--json", "--loglevel=error", "--pack-destination", consumer);
  const [packed] = JSON.parse(stdout.slice(stdout.indexOf("[\n"))) as {
    name: string;
    filename: string;
    files: { path: string }[];
  }[];
  if (!packed) throw new Error(`npm pack in ${folder} printed ${stdout}`);
  const { name, filename, files } = packed;
  return { name, folder, tarball: join(consumer, filename), files: files.map(({ path }) => path) };
}

beforeAll(async () => {
  consumer = await mkdtemp(join(tmpdir(), "onnx-peft-consumer-"));
  for (const name of (await readdir(join(root, "packages"))).sort()) {
    const folder = join(root, "packages", name);
    const manifest = JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as { private?: boolean };
    if (manifest.private !== true) packages.push(await pack(folder));
  }
  const manifest = { name: "consumer", private: true, type: "module", allowScripts: { "onnxruntime-node": false } };
  await writeFile(join(consumer, "package.json"), JSON.stringify(manifest));
  const tarballs = packages.map(({ tarball }) => tarball);
  await npm(consumer, "install", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error", ...tarballs);
  await cp(join(root, "scripts/consumer"), consumer, { recursive: true });
}, 300_000);

afterAll(() => rm(consumer, { recursive: true, force: true }));

test("there are packages to publish", () => {
  expect(packages.map(({ name }) => name)).toEqual(expect.arrayContaining(["@onnx-peft/core", "@onnx-peft/text"]));
});

describe("tarballs", () => {
  test("hold the compiled package with declarations, sources, README and licence", async () => {
    for (const { name, folder, files } of packages) {
      const needed = ["package.json", "README.md", "LICENSE", "dist/index.js", "dist/index.d.ts", "src/index.ts"];
      expect(files, name).toEqual(expect.arrayContaining(needed));
      expect(await readFile(join(folder, "LICENSE"), "utf8"), name).toBe(await readFile(join(root, "LICENSE"), "utf8"));
    }
  });

  test("hold no tests, no helpers of tests and nothing stale", () => {
    for (const { name, files } of packages) {
      const helpers = files.filter((f) => /\.test\.|\.tsbuildinfo$|^(dist|src)\/.+\/testing\//.test(f));
      expect(helpers, name).toEqual([]);
      const sources = new Set(files);
      const compiled = files.filter((f) => f.startsWith("dist/"));
      const stale = compiled.filter(
        (f) => !sources.has(f.replace(/^dist/, "src").replace(/(\.d\.ts|\.js)(\.map)?$/, ".ts")),
      );
      expect(stale, name).toEqual([]);
    }
  });

  test("pass publint", async () => {
    for (const { name, tarball } of packages) {
      const bytes = await readFile(tarball);
      const tar = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer;
      const { messages, pkg } = await publint({ pack: { tarball: tar }, level: "warning", strict: true });
      expect(
        messages.map((message) => formatMessage(message, pkg ?? {}, { color: false })),
        name,
      ).toEqual([]);
    }
  });
});

describe("an empty project with the tarballs", () => {
  test.each(["differentiate.mjs", "encode.mjs"])("runs %s", async (script) => {
    const { stdout } = await run(process.execPath, [script], { cwd: consumer });
    expect(stdout).toMatch(/^(core|text) ok/);
  });

  test("has every exported path", async () => {
    for (const { name } of packages) {
      const manifest = JSON.parse(await readFile(join(consumer, "node_modules", name, "package.json"), "utf8")) as {
        exports: Record<string, unknown>;
      };
      for (const path of Object.keys(manifest.exports).filter((p) => p !== "./package.json")) {
        const code = `const m = await import(${JSON.stringify(join(name, path).replaceAll("\\", "/"))}); console.log(Object.keys(m).length)`;
        const { stdout } = await run(process.execPath, ["--input-type=module", "-e", code], { cwd: consumer });
        expect(Number(stdout), `${name} ${path}`).toBeGreaterThan(0);
      }
    }
  });

  test("type-checks against the shipped declarations, also those of the library themselves", async () => {
    const compilerOptions = {
      target: "ES2023",
      module: "NodeNext",
      strict: true,
      noEmit: true,
      types: ["node"],
      typeRoots: [join(root, "node_modules/@types")],
    };
    await writeFile(join(consumer, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["typed.ts"] }));
    const tsc = createRequire(import.meta.url)
      .resolve("typescript/package.json")
      .replace("package.json", "bin/tsc");
    const problems = await run(process.execPath, [tsc, "-p", consumer]).then(
      () => "",
      (error: { stdout: string; message: string }) => error.stdout || error.message,
    );
    expect(ownProblems(problems)).toEqual([]);
  });
});

/** What the compiler says of our declarations and of the consumer. Declarations of other packages have errors of their own. */
function ownProblems(output: string): string[] {
  if (output !== "" && !output.includes("error TS")) return [output]; // the compiler itself failed
  const first = output.split("\n").filter((line) => /^\S.*error TS\d+/.test(line));
  return first.filter((line) => !/node_modules[\\/](?!@onnx-peft[\\/])/.test(line.split("(")[0] ?? ""));
}
