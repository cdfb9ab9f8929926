// Writes what is generated in README.md, packages/*/README.md and docs/: counts gradient checks, records what methods do, runs the examples, reads
// bench/results and the code.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
/** Runs tests in the mode in which they write what they would compare; false when one failed. */
function run(...paths) {
  const { status } = spawnSync(process.execPath, [vitest, "run", ...paths], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    stdio: "inherit",
    env: { ...process.env, UPDATE_DOCS: "1" },
  });
  return status === 0;
}

// Counts and findings come from the tests of gradient rules and methods, docs/operators.md and docs/methods.md from them.
const recorded = [
  "packages/core/src/gradients",
  "packages/core/src/methods/behaviour-",
  "packages/core/src/methods/training",
];
process.exit(run(...recorded) && run("scripts/docs/generated-files.test.ts") ? 0 : 1);
