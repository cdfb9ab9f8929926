import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Reporter, TestModule } from "vitest/node";
import { type Recording, recordings } from "./recordings.ts";

/**
 * Counts the checks of a run in which all tests of a recording ran and passed, and compares them with the committed file, from which pages
 * in docs/ are made. Differences fail the run; with UPDATE_DOCS=1 they are written instead. Runs of some of these tests alone
 * are left as they are.
 */
export default class RecordingReporter implements Reporter {
  private readonly folder = mkdtempSync(join(tmpdir(), "recorded-checks-"));

  onInit(): void {
    process.env["RECORDED_CHECKS"] = this.folder; // inherited by the processes that run test files
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    try {
      const passed = passedFiles(modules);
      for (const recording of recordings) {
        if (recording.tests().every((path) => passed.has(path))) compare(recording, this.checksOf(recording));
      }
    } finally {
      rmSync(this.folder, { recursive: true, force: true });
    }
  }

  private checksOf({ name }: Recording): unknown[] {
    return readdirSync(this.folder)
      .filter((file) => file.startsWith(`${name}-`))
      .flatMap((file) => readFileSync(join(this.folder, file), "utf8").split("\n"))
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as unknown);
  }
}

function passedFiles(modules: readonly TestModule[]): Set<string> {
  const passed = new Set<string>();
  for (const testModule of modules) {
    const results = [...testModule.children.allTests()].map((test) => test.result().state);
    if (testModule.state() === "passed" && results.every((state) => state === "passed"))
      passed.add(testModule.moduleId);
  }
  return passed;
}

function compare({ name, file, format }: Recording, checks: readonly unknown[]): void {
  const found = format(checks);
  if (process.env["UPDATE_DOCS"] === "1") {
    writeFileSync(file, found);
    return;
  }
  const [listed, ran] = [readFileSync(file, "utf8"), found].map((text) => text.trimEnd().split("\n"));
  const differences = [
    ...(listed ?? []).filter((line) => !ran?.includes(line)).map((line) => `- ${line}`),
    ...(ran ?? []).filter((line) => !listed?.includes(line)).map((line) => `+ ${line}`),
  ];
  if (differences.length === 0) return;
  console.error(`docs/${name}.jsonl does not agree with the checks that ran: npm run readme`);
  console.error(differences.join("\n"));
  process.exitCode = 1;
}
