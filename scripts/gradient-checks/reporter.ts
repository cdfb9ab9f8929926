import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Reporter, TestModule } from "vitest/node";
import { aggregate, formatChecks, readChecks } from "./aggregate.ts";
import { ruleTests } from "./rule-tests.ts";

const page = fileURLToPath(new URL("../../docs/gradient-checks.jsonl", import.meta.url));

/**
 * Counts the gradient checks of a run in which all tests of gradient rules ran and passed, and compares the counts with
 * docs/gradient-checks.jsonl, from which docs/operators.md is made. Different counts fail the run; with UPDATE_DOCS=1 they
 * are written instead. Runs of some of these tests alone are left as they are.
 */
export default class GradientCheckReporter implements Reporter {
  private readonly folder = mkdtempSync(join(tmpdir(), "gradient-checks-"));

  onInit(): void {
    process.env["GRADIENT_CHECKS"] = this.folder; // inherited by the processes that run test files
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    try {
      if (this.isComplete(modules)) this.compare();
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
    }
  }

  private isComplete(modules: readonly TestModule[]): boolean {
    const passed = new Set<string>();
    for (const testModule of modules) {
      const results = [...testModule.children.allTests()].map((test) => test.result().state);
      if (testModule.state() === "passed" && results.every((state) => state === "passed"))
        passed.add(testModule.moduleId);
    }
    return ruleTests().every((path) => passed.has(path));
  }

  private compare(): void {
    const found = formatChecks(aggregate(readChecks(this.folder)));
    if (process.env["UPDATE_DOCS"] === "1") {
      writeFileSync(page, found);
      return;
    }
    const [listed, ran] = [readFileSync(page, "utf8"), found].map((text) => text.trimEnd().split("\n"));
    const differences = [
      ...(listed ?? []).filter((line) => !ran?.includes(line)).map((line) => `- ${line}`),
      ...(ran ?? []).filter((line) => !listed?.includes(line)).map((line) => `+ ${line}`),
    ];
    if (differences.length === 0) return;
    console.error("docs/gradient-checks.jsonl does not agree with the checks that ran: npm run readme");
    console.error(differences.join("\n"));
    process.exitCode = 1;
  }
}
