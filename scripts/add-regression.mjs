// Saves an adapter of every method that has none in regression/ yet: npm run regression:add. Saved ones stay as they are.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
const { status } = spawnSync(process.execPath, [vitest, "run", "packages/core/src/adapters/regression.test.ts"], {
  cwd: fileURLToPath(new URL("..", import.meta.url)),
  stdio: "inherit",
  env: { ...process.env, ADD_REGRESSION: "1" },
});
process.exit(status ?? 1);
