import { readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { checkFile } from "./check-file.ts";

/** Every ONNX file of the repository's goldens; see parity/README.md. */
const golden = fileURLToPath(new URL("../../../../parity/golden", import.meta.url));
const files = readdirSync(golden, { recursive: true, withFileTypes: true }).flatMap((entry) =>
  entry.name.endsWith(".onnx") ? [relative(golden, join(entry.parentPath, entry.name))] : [],
);

/** Dynamic int8 computes in steps: how far merged outputs and differences are off depends on the processor. */
const isRounded = (file: string): boolean => /(int8|quantized|qdq)\.onnx$/.test(file);

test.each(files)("%s is ready", async (file) => {
  const options = { threads: 1, batch: 2, tokens: 8, kinds: ["linear"] } as const;
  const { verdict, reasons, kinds } = await checkFile(join(golden, file), onnxruntimeNode, options);
  // Heads of 8: ONNX Runtime's own operator wants multiples of 16. Packing mode has kernels for GPUs only.
  const why = /genai/.test(file) ? "head_size" : /packing/.test(file) ? "RemovePadding" : null;
  const refused = why ? [new RegExp(`the file itself does not run here.*${why}`), /merging was refused/] : [];
  const others = reasons.filter((reason) => !refused.some((pattern) => pattern.test(reason)));
  for (const reason of others)
    expect(reason).toMatch(isRounded(file) ? /rounding hides them|merged and unmerged/ : /^$/);
  expect(verdict).toBe(reasons.length === 0 ? "ready" : "ready with limits");
  expect(kinds.map(({ kind, problem }) => ({ kind, refused: problem !== null }))).toEqual([
    { kind: "linear", refused: refused.length > 0 },
  ]);
});

test("the files are there", () => {
  expect(files.length).toBeGreaterThanOrEqual(40);
});
