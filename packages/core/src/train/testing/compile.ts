import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const sources = fileURLToPath(new URL("../..", import.meta.url));
const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));

/**
 * Compiles a script of this folder, with everything it imports and the child process of the trainer, for tests that start
 * (and kill) processes: Node 20 cannot start one from a .ts file, and fixtures are no part of the build. About a second.
 *
 * @returns the path of the compiled script, and what removes it.
 */
export async function compileScript(name: string): Promise<{ path: string; remove: () => Promise<void> }> {
  // Beside the installed packages, so that imports of them resolve.
  const cache = join(dirname(typescript), ".cache");
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, "onnx-peft-test-"));
  await writeFile(join(folder, "package.json"), '{"type":"module"}');
  const files = [join(sources, "train/testing", name), join(sources, "train/engine-child.ts")];
  const options = ["--module", "nodenext", "--target", "es2023", "--types", "node", "--noCheck"];
  options.push("--rewriteRelativeImportExtensions", "--rootDir", sources, "--outDir", folder);
  // The folder's own settings would include tests.
  options.push("--ignoreConfig");
  await promisify(execFile)(process.execPath, [join(typescript, "bin/tsc"), ...options, ...files]);
  return {
    path: join(folder, "train/testing", name.replace(/\.ts$/, ".js")),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
