// Writes what is generated in README.md, packages/*/README.md and docs/: runs the examples, reads bench/results and the code.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
const { status } = spawnSync(process.execPath, [vitest, "run", "scripts/docs/generated-files.test.ts"], {
  cwd: fileURLToPath(new URL("..", import.meta.url)),
  stdio: "inherit",
  env: { ...process.env, UPDATE_DOCS: "1" },
});
process.exit(status ?? 1);
