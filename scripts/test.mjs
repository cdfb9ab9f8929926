// The whole check of a clone: build, type check, lint, tests. Stops at the first step that fails.
import { spawnSync } from "node:child_process";

const steps = [
  ["build", ["npx", "tsc", "-b"]],
  ["type check of tests and scripts", ["npx", "tsc", "-p", "tsconfig.test.json"]],
  ["lint", ["npx", "biome", "check", "."]],
  ["tests", ["npx", "vitest", "run"]],
];
for (const [name, [command, ...args]] of steps) {
  const started = performance.now();
  const { status } = spawnSync(command, args, { stdio: "inherit" });
  if (status !== 0) {
    console.error(`${name} failed`);
    if (name !== "tests") console.log("0 passed, 1 failed");
    process.exit(status ?? 1);
  }
  if (name !== "tests") console.log(`${name}: ok, ${((performance.now() - started) / 1000).toFixed(1)} s`);
}
