// The whole check of a clone: build, type check, lint, tests, and the quickstart at reduced size.
// The last line reads `N passed, N failed`; each step that is not a set of tests counts as one.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const npm = process.platform === "win32" ? "npm.cmd" : "npm";
const scratch = mkdtempSync(join(tmpdir(), "onnx-peft-test-"));
const counts = join(scratch, "counts.json");
const total = { passed: 0, failed: 0 };

/** Runs one command of package.json; true when it succeeded. */
function run(name, script, args = []) {
  console.log(`\n# ${name}`);
  const started = performance.now();
  const { status } = spawnSync(npm, ["run", "--silent", script, ...(args.length > 0 ? ["--", ...args] : [])], {
    cwd: root,
    stdio: "inherit",
    shell: process.platform === "win32",
    env: { ...process.env, TEST_COUNTS_FILE: counts },
  });
  console.log(`${name}: ${status === 0 ? "ok" : "failed"}, ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return status === 0;
}

function step(name, script, args) {
  const ok = run(name, script, args);
  total[ok ? "passed" : "failed"]++;
  return ok;
}

function unitTests() {
  const ok = run("tests", "test:unit");
  try {
    const { passed, failed } = JSON.parse(readFileSync(counts, "utf8"));
    total.passed += passed;
    total.failed += ok ? failed : Math.max(failed, 1);
  } catch {
    total.failed++; // vitest ended before it could count
  }
}

try {
  const built = step("build", "build");
  step("type check", "typecheck");
  step("lint", "lint");
  if (built) {
    unitTests();
    if (scripts.quickstart) step("quickstart", "quickstart", ["--quick"]);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
  process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
  console.log(`${total.passed} passed, ${total.failed} failed`);
}
