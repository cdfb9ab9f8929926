import { writeFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/**
 * Prints `N passed, N failed` as the last line; a file that cannot be loaded counts as one failure. Under
 * `scripts/test.mjs`, which names a file in TEST_COUNTS_FILE, the counts go there and that script prints the sum.
 */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    let passed = 0;
    let failed = errors.length;
    for (const testModule of modules) {
      const before = failed;
      for (const test of testModule.children.allTests()) {
        const { state } = test.result();
        if (state === "passed") passed++;
        else if (state === "failed") failed++;
      }
      if (testModule.state() === "failed" && failed === before) failed++;
    }
    const file = process.env["TEST_COUNTS_FILE"];
    if (file === undefined) process.on("exit", () => console.log(`${passed} passed, ${failed} failed`));
    else writeFileSync(file, JSON.stringify({ passed, failed }));
  }
}
