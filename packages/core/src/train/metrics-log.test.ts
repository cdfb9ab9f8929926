import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openMetricsLog, readMetrics } from "./metrics-log.ts";

let folder = "";
let path = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "metrics-log-"));
  path = join(folder, "metrics.jsonl");
});
afterEach(() => rm(folder, { recursive: true }));

async function write(steps: number[]) {
  const log = await openMetricsLog(path);
  for (const step of steps) log.append({ step, loss: 1 / (step + 1), note: "über" });
  await log.close();
}

describe("openMetricsLog", () => {
  test("appends one JSON object a line, on disk after flush", async () => {
    const log = await openMetricsLog(path);
    log.append({ step: 1, loss: 0.5 });
    log.append({ step: 1, accuracy: 0.9, split: "validation" });
    expect(await readFile(path, "utf8")).toBe("");
    await Promise.all([log.flush(), log.flush()]);
    expect(await readFile(path, "utf8")).toBe(
      '{"step":1,"loss":0.5}\n{"step":1,"accuracy":0.9,"split":"validation"}\n',
    );
    await log.close();
    await log.close();
  });

  test("without resume an existing log is replaced", async () => {
    await write([1, 2, 3]);
    await write([1]);
    expect(await readMetrics(path)).toHaveLength(1);
  });

  test("resume keeps lines up to the step and drops later and torn ones", async () => {
    await write([1, 2, 3, 4, 5]);
    await appendFile(path, '{"step":6,"lo');
    const log = await openMetricsLog(path, { resumeAfterStep: 3 });
    log.append({ step: 4, loss: 9 });
    await log.close();
    expect((await readMetrics(path)).map((record) => [record.step, record.loss])).toEqual([
      [1, 1 / 2],
      [2, 1 / 3],
      [3, 1 / 4],
      [4, 9],
    ]);
  });

  test("resume at the end only removes a torn line; before the first line it removes all", async () => {
    await write([1, 2]);
    await appendFile(path, '{"step":3');
    await (await openMetricsLog(path, { resumeAfterStep: 9 })).close();
    expect((await readFile(path, "utf8")).endsWith("}\n")).toBe(true);
    expect(await readMetrics(path)).toHaveLength(2);
    await (await openMetricsLog(path, { resumeAfterStep: 0 })).close();
    expect(await readFile(path, "utf8")).toBe("");
  });

  test("resuming a log that does not exist starts one", async () => {
    const log = await openMetricsLog(path, { resumeAfterStep: 0 });
    log.append({ step: 1 });
    await log.close();
    expect(await readMetrics(path)).toEqual([{ step: 1 }]);
  });

  test("a damaged log is refused with its line and left as it was", async () => {
    await writeFile(path, '{"step":1}\nnonsense\n{"step":3}\n');
    await expect(openMetricsLog(path, { resumeAfterStep: 1 })).rejects.toThrow(/received nonsense at line 2 of/);
    expect(await readFile(path, "utf8")).toContain("nonsense");
    await writeFile(path, '{"step":1}\n{"loss":1}\n');
    await expect(readMetrics(path)).rejects.toThrow(expect.objectContaining({ code: "METRICS_LOG_INVALID" }));
  });

  test("NaN and infinity survive", async () => {
    const log = await openMetricsLog(path);
    log.append({
      step: 1,
      loss: Number.NaN,
      norm: Number.POSITIVE_INFINITY,
      nested: { low: Number.NEGATIVE_INFINITY },
    });
    await log.close();
    expect(await readMetrics(path)).toEqual([
      { step: 1, loss: Number.NaN, norm: Number.POSITIVE_INFINITY, nested: { low: Number.NEGATIVE_INFINITY } },
    ]);
  });

  test("steps never go back", async () => {
    const log = await openMetricsLog(path);
    log.append({ step: 5 });
    expect(() => log.append({ step: 4 })).toThrow(expect.objectContaining({ code: "METRICS_LOG_ORDER" }));
    expect(() => log.append({ step: Number.NaN })).toThrow(expect.objectContaining({ code: "METRICS_LOG_ORDER" }));
    await log.close();
  });
});
