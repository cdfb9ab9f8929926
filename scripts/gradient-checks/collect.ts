import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import { onGradientCheck } from "../../packages/core/src/testing/check-log.ts";
import { isRuleTest } from "./rule-tests.ts";

// Runs before every test file; tests of gradient rules leave a line per check for the reporter.
const folder = process.env["GRADIENT_CHECKS"];
const path = expect.getState().testPath ?? "";
if (folder && isRuleTest(path)) {
  const lines: string[] = [];
  const stop = onGradientCheck((check) => lines.push(`${JSON.stringify(check)}\n`));
  afterAll(() => {
    stop();
    appendFileSync(join(folder, `${process.pid}.jsonl`), lines.join(""));
  });
}
