import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FuzzTarget, type Mutation, mutateJson, mutateWithWords } from "@onnx-peft/core/testing";
import { loadTextDataset } from "../data/load-text-dataset.ts";
import { loadTokenDataset } from "../data/load-token-dataset.ts";

const encoder = new TextEncoder();

/** A target whose parser wants a file. */
function fileTarget(
  name: string,
  fileName: string,
  seeds: readonly string[],
  mutations: readonly Mutation[],
  read: (path: string) => Promise<unknown>,
): () => FuzzTarget {
  return () => {
    const folder = mkdtempSync(join(tmpdir(), `fuzz-${name}-`));
    process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
    const path = join(folder, fileName);
    return {
      name,
      seeds: seeds.map((text) => encoder.encode(text)),
      mutations,
      codes: new Set(["DATA_INVALID"]),
      async run(input) {
        writeFileSync(path, input);
        await read(path);
      },
    };
  };
}

const separators = [
  ",",
  "\t",
  "\n",
  "\r\n",
  "\r",
  '"',
  '""',
  '"\n"',
  " ",
  "\u0000",
  "\ufeff",
  "é",
  "__proto__",
  "text",
  "label",
];

/** The readers of data files, by the name that `npm run fuzz -- --parser` takes. */
export const fuzzTargets: Readonly<Record<string, () => FuzzTarget>> = {
  csv: fileTarget(
    "csv",
    "data.csv",
    ['text,label\n"a, ""b""",x\nc,y\n', "label,text,other\r\n1,a,\r\n2,b,\r\n"],
    [mutateWithWords(separators)],
    (path) => loadTextDataset(path),
  ),
  "json-lines": fileTarget(
    "json-lines",
    "data.jsonl",
    ['{"text":"a","label":"x"}\n{"text":"b\\n","label":"y","more":[1,{"z":null}]}\n'],
    [mutateJson, mutateWithWords(separators)],
    (path) => loadTextDataset(path),
  ),
  conll: fileTarget(
    "conll",
    "data.conll",
    ["-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n# a comment\nPeter\tB-PER\n"],
    [mutateWithWords([...separators, "-DOCSTART-", "# ", "B-", "I-", "O"])],
    (path) => loadTokenDataset(path),
  ),
};
