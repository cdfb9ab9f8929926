import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { resultsSection } from "./results-table.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "onnx-peft-results-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const save = (name: string, content: unknown): Promise<void> =>
  writeFile(join(folder, `${name}.json`), JSON.stringify(content));

test("a result becomes a table with the command it comes from", async () => {
  const table = { columns: ["Method", "Accuracy"], rows: [["LoRA", "71.0 %"]] };
  await save("a", { title: "Quickstart", command: "npm run quickstart", machine: "2 cores", table, other: 1 });
  expect(resultsSection(folder, "a")).toBe(
    [
      "### Quickstart",
      "",
      "| Method | Accuracy |",
      "| --- | --: |",
      "| LoRA | 71.0 % |",
      "",
      "From `npm run quickstart`, 2 cores: [a.json](bench/results/a.json).",
    ].join("\n"),
  );
});

test("what was not measured is left out", () => expect(resultsSection(folder, "nothing")).toBe(""));

test("a file without a command, or with a row too short, is an error", async () => {
  await save("b", { title: "t", table: { columns: ["x"], rows: [] } });
  expect(() => resultsSection(folder, "b")).toThrow('"command"');
  await save("c", { title: "t", command: "c", table: { columns: ["x", "y"], rows: [[1]] } });
  expect(() => resultsSection(folder, "c")).toThrow('"table"');
});
