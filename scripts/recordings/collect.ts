import { appendFileSync } from "node:fs";
import { join, sep } from "node:path";
import { afterAll, expect } from "vitest";
import { recordings } from "./recordings.ts";

// Runs before every test file; tests whose checks are recorded leave a line per check for the reporter.
const folder = process.env["RECORDED_CHECKS"];
const path = (expect.getState().testPath ?? "").split("/").join(sep);
for (const { name, tests, listen } of recordings) {
  if (!folder || !tests().includes(path)) continue;
  const lines: string[] = [];
  const stop = listen((check) => lines.push(`${JSON.stringify(check)}\n`));
  afterAll(() => {
    stop();
    appendFileSync(join(folder, `${name}-${process.pid}.jsonl`), lines.join(""));
  });
}
