import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PeftError } from "@onnx-peft/core";
import fc from "fast-check";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, describe, expect, test } from "vitest";
import { loadTextDataset, streamTextDataset } from "./load-text-dataset.ts";
import { loadTokenDataset } from "./load-token-dataset.ts";
import { streamBatches } from "./stream-batches.ts";

const folder = mkdtempSync(join(tmpdir(), "datasets-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
function file(extension: string, content: string | Buffer): string {
  const path = join(folder, `${files++}${extension}`);
  writeFileSync(path, content);
  return path;
}
/** The problems of a load that must fail, as "line 2: ...". */
async function problemsOf(load: Promise<unknown>): Promise<string[]> {
  const error = await load.then(
    () => expect.fail("was accepted"),
    (e: unknown) => e,
  );
  if (!PeftError.isInstance(error)) throw error;
  expect(error.code).toBe("DATA_INVALID");
  const problems = error.details["problems"] as { where: string; problem: string }[];
  for (const { where } of problems) expect(error.message).toContain(where);
  return problems.map(({ where, problem }) => `${where}: ${problem}`);
}
const lines = (...rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

const rows = [
  { text: "first, with a comma", label: "b" },
  { text: 'a "quote"\nand a new line', label: "a" },
  { text: "ünï → 漢字", label: "b" },
];

describe("every format gives the same rows", () => {
  const csv = (d: string) =>
    `text${d}label\r\n"first, with a comma"${d}b\r\n"a ""quote""\nand a new line"${d}a\r\n\r\nünï → 漢字${d}b`;
  const parquet = () =>
    Buffer.from(
      parquetWriteBuffer({
        columnData: [
          { name: "other", data: [1, 2, 3] },
          { name: "text", data: rows.map((r) => r.text), type: "STRING" },
          { name: "label", data: rows.map((r) => r.label), type: "STRING" },
        ],
        rowGroupSize: 2,
      }),
    );
  test.each([
    [".jsonl", lines(...rows)],
    [".ndjson", `\ufeff${lines(...rows).replaceAll("\n", "\r\n")}\n\n`],
    [".csv", csv(",")],
    [".tsv", csv("\t")],
    [".parquet", parquet()],
  ])("%s", async (extension, content) => {
    const path = file(extension, content);
    expect(await loadTextDataset(path)).toEqual(rows);
    expect(await loadTextDataset(path, { limit: 2 })).toEqual(rows.slice(0, 2));
    expect(await loadTextDataset(path, { limit: 0 })).toEqual([]);
    expect(await loadTextDataset(path, { columns: { text: "label", textPair: "text" }, labelKind: "none" })).toEqual(
      rows.map((row) => ({ text: row.label, textPair: row.text, label: undefined })),
    );
  });

  test("folder per label, in the order of the names", async () => {
    const path = join(folder, "reviews");
    for (const [name, text] of [
      ["neg/b.txt", "bad"],
      ["neg/a.txt", "worse"],
      ["pos/z.txt", "good"],
      ["pos/.hidden", "?"],
    ] as const) {
      mkdirSync(join(path, name, ".."), { recursive: true });
      writeFileSync(join(path, name), text);
    }
    expect(await loadTextDataset(path)).toEqual([
      { text: "worse", label: "neg" },
      { text: "bad", label: "neg" },
      { text: "good", label: "pos" },
    ]);
    symlinkSync("/etc/hostname", join(path, "pos/link.txt"));
    writeFileSync(join(path, "stray.txt"), "");
    expect(await problemsOf(loadTextDataset(path))).toEqual([
      "pos/link.txt: expected a plain file, received a folder, a link or a device.",
      "stray.txt: expected a folder named after a label, received something else.",
    ]);
  });
});

describe("labels", () => {
  test("classes from numbers and booleans; numbers; several classes; pairs and triplets", async () => {
    const path = file(
      ".jsonl",
      lines(
        { text: "t", p: "u", n: "v", c: 1, s: "0.5", m: "x, y,x" },
        { text: "t", p: "u", n: "v", c: true, s: -2, m: [] },
      ),
    );
    const triplet = { text: "t", textPair: "u", textNegative: "v" };
    const columns = { textPair: "p", textNegative: "n" };
    expect(await loadTextDataset(path, { columns: { ...columns, label: "c" } })).toEqual([
      { ...triplet, label: "1" },
      { ...triplet, label: "true" },
    ]);
    const scores = await loadTextDataset(path, { columns: { label: "s" }, labelKind: "number" });
    expect(scores.map((row) => row.label + 1)).toEqual([1.5, -1]);
    const several = await loadTextDataset(path, { columns: { label: "m" }, labelKind: "multi" });
    expect(several.map((row) => row.label)).toEqual([["x", "y"], []]);
  });

  test("64-bit integers of Parquet", async () => {
    const buffer = parquetWriteBuffer({
      columnData: [
        { name: "text", data: ["a", "b"] },
        { name: "label", data: [0n, 12n], type: "INT64" },
      ],
    });
    const path = file(".parquet", Buffer.from(buffer));
    expect((await loadTextDataset(path)).map((row) => row.label)).toEqual(["0", "12"]);
    expect((await loadTextDataset(path, { labelKind: "number" })).map((row) => row.label)).toEqual([0, 12]);
  });
});

describe("bad rows are named, all together", () => {
  test("JSON Lines", async () => {
    const path = file(
      ".jsonl",
      `${lines({ text: "ok", label: "a" })}{"text": \n[1]\n${lines({ text: " ", label: null }, { label: "x" }, { text: "ok", label: "b" })}`,
    );
    expect(await problemsOf(loadTextDataset(path))).toEqual([
      expect.stringMatching(/^line 2: expected JSON: /),
      'line 3: expected an object such as {"text": "..."}, received [1].',
      'line 4: expected a text that is not empty in column "text", received " ".',
      'line 4: expected a class name, a whole number or a boolean in column "label", received null.',
      'line 5: expected a text in column "text", received columns ["label"].',
    ]);
  });

  test("CSV: wrong number of fields and a stray quote", async () => {
    const path = file(".csv", 'text,label\n"two\nlines",a\nshort\n,b\nok,1.5x\nok,"a"b\nok,c\n');
    const problems = await problemsOf(loadTextDataset(path, { labelKind: "number" }));
    expect(problems.slice(0, 4)).toEqual([
      'line 3: expected a finite number in column "label", received "a".',
      "line 4: expected 2 fields, received 1.",
      'line 5: expected a text that is not empty in column "text", received "".',
      'line 5: expected a finite number in column "label", received "b".',
    ]);
    expect(problems[4]).toBe('line 6: expected a finite number in column "label", received "1.5x".');
    expect(problems[5]).toMatch(/^line 7: .*Quote.*csv\.quote: false/);
    const plain = file(".tsv", 'text\tlabel\nhe said "no\ta\n');
    expect(await loadTextDataset(plain, { csv: { quote: false } })).toEqual([{ text: 'he said "no', label: "a" }]);
    const noHeader = file(".csv", "0,hello\n1,there\n");
    expect(
      await loadTextDataset(noHeader, { csv: { header: false }, columns: { text: "1", label: "0" } }),
    ).toHaveLength(2);
  });

  test("Parquet: row numbers across row groups", async () => {
    const buffer = parquetWriteBuffer({
      columnData: [
        { name: "text", data: ["a", "b", "", "d"] },
        { name: "label", data: ["x", "y", "z", null] },
      ],
      rowGroupSize: 2,
    });
    const path = file(".parquet", Buffer.from(buffer));
    expect((await problemsOf(loadTextDataset(path))).map((p) => p.split(":")[0])).toEqual(["row 3", "row 4"]);
    expect(await problemsOf(loadTextDataset(path, { columns: { text: "nope" }, labelKind: "none" }))).not.toHaveLength(
      0,
    );
  });

  test("rows before the first bad one are streamed; the list is bounded", async () => {
    const path = file(
      ".jsonl",
      lines(...Array.from({ length: 5000 }, (_, i) => ({ text: i < 10 ? "ok" : "", label: "a" }))),
    );
    const seen: string[] = [];
    const load = (async () => {
      for await (const row of streamTextDataset(path)) seen.push(row.text);
    })();
    expect(await problemsOf(load)).toHaveLength(20);
    expect(seen).toHaveLength(10);
    expect(await problemsOf(loadTextDataset(path, { limits: { problemWindow: 3 } }))).toHaveLength(4);
  });
});

describe("hostile files", () => {
  test("endless lines, deep nesting, many columns, wrong encodings", async () => {
    const limits = { maxLineBytes: 1000, maxDepth: 5, maxColumns: 3 };
    const load = (extension: string, content: string | Buffer) =>
      problemsOf(loadTextDataset(file(extension, content), { limits }));
    expect(await load(".jsonl", `{"text": "${"x".repeat(200_000)}`)).toEqual([
      expect.stringContaining("line 1: line of more than 1000 bytes"),
    ]);
    expect(await load(".csv", `text,label\n"${"x".repeat(2000)}`)).toEqual([
      expect.stringContaining("line 2: line of more than"),
    ]);
    expect(await load(".csv", `text,label\n"${"x\n".repeat(2000)}`)).toEqual([
      expect.stringMatching(/Max Record Size|max_record_size/i),
    ]);
    expect(await load(".jsonl", "[".repeat(900))).toEqual(["line 1: expected at most 5 levels of nesting."]);
    expect(await load(".jsonl", lines({ a: 1, b: 2, c: 3, d: 4 }))).toEqual(["line 1: expected at most 3 keys."]);
    expect(await load(".csv", "a,b,c,d\n1,2,3,4\n")).toEqual(["line 1: expected at most 3 columns, received 4."]);
    expect(await load(".csv", "text,text\na,b\n")).toEqual(['line 1: column "text" occurs twice.']);
    expect(await load(".jsonl", Buffer.from([0x7b, 0xff, 0x7d]))).toEqual([
      "line 1: expected UTF-8, received other bytes.",
    ]);
    expect(await load(".csv", Buffer.from([0x61, 0x0a, 0xff]))).toEqual([
      "line 2: expected UTF-8, received other bytes.",
    ]);
  });

  test("inherited names are no columns, and __proto__ is one like any other", async () => {
    const path = file(".jsonl", '{"__proto__": "text", "label": "a"}\n');
    expect(await problemsOf(loadTextDataset(path, { columns: { text: "constructor" } }))).toHaveLength(1);
    expect(await loadTextDataset(path, { columns: { text: "__proto__" } })).toEqual([{ text: "text", label: "a" }]);
    expect(({} as Record<string, unknown>)["label"]).toBeUndefined();
  });

  test("broken Parquet files are errors, never crashes or endless loops", async () => {
    const good = Buffer.from(
      parquetWriteBuffer({
        columnData: [
          { name: "text", data: ["a", "b"] },
          { name: "label", data: ["x", "y"] },
        ],
      }),
    );
    const load = (bytes: Buffer) =>
      loadTextDataset(file(".parquet", bytes)).then(
        () => "read",
        (e: unknown) => (PeftError.isInstance(e) ? e.code : e),
      );
    expect(await load(good)).toBe("read");
    expect(await load(Buffer.from("PAR1"))).toBe("DATA_INVALID");
    expect(await load(good.subarray(0, good.length - 1))).toBe("DATA_INVALID");
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 }), async (at, value) => {
        const bytes = Buffer.from(good);
        bytes[at] = value;
        expect(["read", "DATA_INVALID"]).toContain(await load(bytes));
      }),
      // The example makes the number of rows negative.
      { numRuns: 150, examples: [[115, 183]] },
    );
    await expect(loadTextDataset(file(".parquet", good), { limits: { maxRowGroupBytes: 10 } })).rejects.toMatchObject({
      code: "DATA_INVALID",
    });
  });

  test("property: any bytes as JSON Lines, CSV or CoNLL are rows or DATA_INVALID", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 80 }),
        fc.constantFrom(".jsonl", ".csv", ".tsv", ".conll"),
        async (bytes, extension) => {
          const load = extension === ".conll" ? loadTokenDataset : loadTextDataset;
          await load(file(extension, Buffer.from(bytes))).catch((error: unknown) => {
            expect(error).toMatchObject({ code: "DATA_INVALID" });
          });
        },
      ),
    );
  });

  test("missing files and unknown formats", async () => {
    await expect(loadTextDataset(join(folder, "none.csv"))).rejects.toMatchObject({ code: "DATA_NOT_FOUND" });
    await expect(loadTextDataset(file(".xlsx", ""))).rejects.toMatchObject({ code: "DATA_FORMAT_UNKNOWN" });
    await expect(loadTextDataset(folder, { format: "csv" })).rejects.toMatchObject({ code: "DATA_FORMAT_UNKNOWN" });
  });
});

test("property: JSON Lines are read back whatever they hold and wherever the chunks end", async () => {
  const row = fc.record({
    text: fc.string({ unit: "grapheme", minLength: 1 }).filter((t) => t.trim() !== ""),
    label: fc.constantFrom("a", "b"),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(row, { maxLength: 30 }), async (data) => {
      expect(await loadTextDataset(file(".jsonl", lines(...data)))).toEqual(data);
    }),
    { numRuns: 50 },
  );
  const long = Array.from({ length: 50 }, (_, i) => ({ text: `${i} ${"é→漢".repeat(3000)}`, label: "a" })); // 25 kB each, chunks are 64 kB
  expect(await loadTextDataset(file(".jsonl", lines(...long)))).toEqual(long);
});

describe("token classification", () => {
  const sentences = [
    { tokens: ["EU", "rejects"], tags: ["B-ORG", "O"] },
    { tokens: ["Peter"], tags: ["B-PER"] },
  ];
  test("CoNLL, JSON Lines and Parquet with tag numbers", async () => {
    const conll = "-DOCSTART- -X- O O\n\n# id 1\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\n\nPeter\tNNP\tI-NP\tB-PER";
    expect(await loadTokenDataset(file(".conll", conll))).toEqual(sentences);
    expect(await loadTokenDataset(file(".conll", conll.replaceAll("\n", "\r\n")), { limit: 1 })).toEqual(
      sentences.slice(0, 1),
    );
    expect(await loadTokenDataset(file(".jsonl", lines(...sentences)))).toEqual(sentences);
    const numbered = lines({ words: ["EU", "rejects"], ner: [1, 0] }, { words: ["Peter"], ner: [2] });
    const options = { columns: { tokens: "words", tags: "ner" }, tagNames: ["O", "B-ORG", "B-PER"] };
    expect(await loadTokenDataset(file(".jsonl", numbered), options)).toEqual(sentences);
  });

  test("bad sentences are named", async () => {
    const path = file(".conll", "EU B-ORG\nalone\n\nok O\n");
    expect(await problemsOf(loadTokenDataset(path))).toEqual([
      'line 1: expected a token and a tag in line 2, received "alone".',
    ]);
    const json = file(
      ".jsonl",
      lines({ tokens: ["a", "b"], tags: ["O"] }, { tokens: ["a", ""], tags: ["O", "O"] }, { tokens: "a", tags: ["O"] }),
    );
    expect((await problemsOf(loadTokenDataset(json))).map((p) => p.slice(0, 6))).toEqual([
      "line 1",
      "line 2",
      "line 3",
    ]);
    const numbered = file(".jsonl", lines({ tokens: ["a"], tags: [7] }));
    expect(await problemsOf(loadTokenDataset(numbered, { tagNames: ["O"] }))).toHaveLength(1);
  });
});

describe("streamBatches", () => {
  const collect = async <T>(stream: AsyncIterable<T>) => {
    const all: T[] = [];
    for await (const item of stream) all.push(item);
    return all;
  };
  const numbers = Array.from({ length: 103 }, (_, i) => i);

  test("keeps the order without a buffer; the last batch may be smaller or left out", async () => {
    const batches = await collect(streamBatches(numbers, { batchSize: 10 }));
    expect(batches.flat()).toEqual(numbers);
    expect(batches.map((b) => b.length).slice(-2)).toEqual([10, 3]);
    expect(await collect(streamBatches(numbers, { batchSize: 10, dropLast: true }))).toHaveLength(10);
  });

  test("property: a shuffle buffer loses nothing, repeats with its seed, and holds back no more than its size", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 120 }), fc.integer(), async (shuffleBuffer, seed) => {
        const options = { batchSize: 7, shuffleBuffer, seed };
        const order = (await collect(streamBatches(numbers, options))).flat();
        expect(order.toSorted((a, b) => a - b)).toEqual(numbers);
        expect((await collect(streamBatches(numbers, options))).flat()).toEqual(order);
        expect(Math.max(...order.map((value, place) => value - place))).toBeLessThanOrEqual(shuffleBuffer);
      }),
      { numRuns: 30 },
    );
    const shuffled = (await collect(streamBatches(numbers, { batchSize: 7, shuffleBuffer: 50, seed: 1 }))).flat();
    expect(shuffled).not.toEqual(numbers);
    await expect(collect(streamBatches(numbers, { batchSize: 7, shuffleBuffer: 5 }))).rejects.toMatchObject({
      code: "BATCH_SIZE_INVALID",
    });
    await expect(collect(streamBatches(numbers, { batchSize: 0 }))).rejects.toMatchObject({
      code: "BATCH_SIZE_INVALID",
    });
  });

  test("reads no further than it must", async () => {
    let produced = 0;
    const source = (function* () {
      for (;;) yield produced++;
    })();
    for await (const batch of streamBatches(source, { batchSize: 4, shuffleBuffer: 8, seed: 1 })) {
      expect(batch).toHaveLength(4);
      break;
    }
    expect(produced).toBe(12);
  });
});
