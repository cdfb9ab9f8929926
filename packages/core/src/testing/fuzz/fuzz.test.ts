import { expect, test } from "vitest";
import { PeftError } from "../../errors.ts";
import { fuzz, fuzzInput } from "./fuzz.ts";
import { fuzzRandom } from "./fuzz-random.ts";
import { minimise } from "./minimise.ts";
import { mutateProtobuf, wireFields } from "./mutate-protobuf.ts";
import { mutateJson, mutateSafetensors } from "./mutate-text.ts";
import type { FuzzTarget } from "./target.ts";
import { tryInput } from "./try-input.ts";

const encoder = new TextEncoder();
const seed = encoder.encode('{"list": [1, 2, 3], "text": "abcdefgh"}');

const targetOf = (run: FuzzTarget["run"], more: Partial<FuzzTarget> = {}): FuzzTarget => ({
  name: "planted",
  seeds: [seed],
  mutations: [],
  codes: new Set(["BAD"]),
  run,
  ...more,
});

/** A parser with a defect: it believes that every "a" is followed by a "b". */
const planted = (input: Uint8Array): void => {
  const at = input.indexOf(97);
  if (at < 0) throw new PeftError("BAD", "no a");
  if (input[at + 1] !== 98) throw new TypeError("cannot read what is not there");
};

test("a defect is found once, made small, and comes again from its number", async () => {
  const target = targetOf(planted);
  const report = await fuzz(target, { inputs: 300, seed: 4 });
  expect(report.findings).toHaveLength(1);
  const [finding] = report.findings;
  expect(finding).toMatchObject({ kind: "crash", message: expect.stringContaining("TypeError: cannot read") });
  expect([...Buffer.from(finding!.input, "base64")]).toEqual([97]);
  const again = await tryInput(target, fuzzInput(target, 4, finding!.index));
  expect(again).toMatchObject({ result: "finding", kind: "crash" });
  expect(report.accepted + (report.refused["BAD"] ?? 0)).toBeGreaterThan(100);
  expect(await fuzz(target, { inputs: 300, seed: 4 })).toEqual(report);
});

test.each<[string, FuzzTarget["run"]]>([
  ["code", () => Promise.reject(new PeftError("OTHER", "x"))],
  [
    "crash",
    () => {
      throw new PeftError("BAD", "x", { details: { defect: true } });
    },
  ],
  [
    "memory",
    () => {
      (globalThis as { kept?: unknown }).kept = new Uint8Array(2 ** 27).fill(1);
    },
  ],
  [
    "pollution",
    () => {
      (Object.prototype as { odd?: number }).odd = 1;
    },
  ],
  [
    "slow",
    () => {
      for (const start = process.cpuUsage(); process.cpuUsage(start).user < 40_000; );
    },
  ],
])("a finding of kind %s", async (kind, run) => {
  const limits = { maxMs: kind === "slow" ? 20 : 60_000, maxBytes: 2 ** 26, maxBytesPerByte: 0 };
  expect(await tryInput(targetOf(run), seed, limits)).toMatchObject({ result: "finding", kind });
  expect(Object.keys(Object.prototype)).toEqual([]);
});

test("minimise leaves what is needed", async () => {
  const needs = (bytes: Uint8Array): Promise<boolean> => Promise.resolve(bytes.includes(7) && bytes.includes(9));
  const input = Uint8Array.from({ length: 100 }, (_, i) => i);
  expect([...(await minimise(input, needs))]).toEqual([7, 9]);
});

test("structure is seen in protobuf, and lengths around an edit are corrected", () => {
  // Field 1: message { field 2: varint 5, field 3: two bytes that are no field }
  const inner = [0x10, 5, 0x1a, 2, 0xff, 0xff];
  const bytes = Uint8Array.from([0x0a, inner.length, ...inner]);
  expect(wireFields(bytes).map(({ number, parent }) => [number, parent])).toEqual([
    [1, -1],
    [2, 0],
    [3, 0],
  ]);
  let wellFormed = 0;
  for (let i = 0; i < 400; i++) {
    const out = mutateProtobuf(bytes, fuzzRandom("proto", 1, i), []);
    if (out.length === 0 || wireFields(out).length > 0) wellFormed++;
  }
  expect(wellFormed).toBeGreaterThan(200);
});

test("edits of JSON keep a safetensors header at its right length, nearly always", () => {
  const header = encoder.encode('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}');
  const file = Uint8Array.from([header.length, 0, 0, 0, 0, 0, 0, 0, ...header, 0, 0, 0, 0]);
  let right = 0;
  for (let i = 0; i < 200; i++) {
    const random = fuzzRandom("safetensors", 1, i);
    const out = mutateSafetensors(file, random, []);
    const length = Number(new DataView(out.buffer).getBigUint64(0, true));
    if (out.length === 8 + length + 4) right++;
    expect(mutateJson(encoder.encode(""), random, [])).toHaveLength(0);
  }
  expect(right).toBeGreaterThan(170);
});
