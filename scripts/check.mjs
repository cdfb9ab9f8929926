// Says whether an ONNX file can be trained: npm run check -- model.onnx [--json] [--batch 8] [--tokens 128] [--threads 2]
import process from "node:process";
import { parseArgs } from "node:util";
import { checkFile, formatCheck, onnxruntimeNode } from "@onnx-peft/core";

const usage = "Usage: npm run check -- model.onnx [--json] [--batch 8] [--tokens 128] [--threads 2]";

function argumentsOf() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean", default: false },
        batch: { type: "string" },
        tokens: { type: "string" },
        threads: { type: "string" },
      },
    });
    const numbers = Object.entries(values).flatMap(([key, text]) => (key === "json" ? [] : [[key, Number(text)]]));
    if (positionals.length !== 1 || numbers.some(([, n]) => !Number.isInteger(n) || n < 1)) return null;
    return { path: positionals[0], json: values.json, options: Object.fromEntries(numbers) };
  } catch {
    return null;
  }
}

const given = argumentsOf();
if (given === null) {
  process.stderr.write(`${usage}\n`);
  process.exitCode = 2;
} else {
  const check = await checkFile(given.path, onnxruntimeNode, given.options);
  process.stdout.write(given.json ? `${JSON.stringify(check, null, 1)}\n` : formatCheck(check));
  process.exitCode = check.verdict === "not trainable" ? 1 : 0;
}
