// Writes what is generated in README.md, packages/*/README.md and docs/: counts gradient checks, runs the examples, reads
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

// The counts of gradient checks come from the tests of the rules, docs/operators.md from the counts.
process.exit(run("packages/core/src/gradients") && run("scripts/docs/generated-files.test.ts") ? 0 : 1);
