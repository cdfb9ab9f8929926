// Says whether an ONNX file can be trained: npm run check -- model.onnx [--json] [--batch 8] [--tokens 128] [--threads 2] [--bind input=true]
import process from "node:process";
import { parseArgs } from "node:util";
import { checkFile, formatCheck, onnxruntimeNode } from "@onnx-peft/core";

const usage =
  "Usage: npm run check -- model.onnx [--json] [--batch 8] [--tokens 128] [--threads 2] [--bind use_cache_branch=true]";

function argumentsOf() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean", default: false },
        batch: { type: "string" },
        tokens: { type: "string" },
        threads: { type: "string" },
        bind: { type: "string", multiple: true, default: [] },
      },
    });
    const { json, bind, ...texts } = values;
    const numbers = Object.entries(texts).map(([key, text]) => [key, Number(text)]);
    if (positionals.length !== 1 || numbers.some(([, n]) => !Number.isInteger(n) || n < 1)) return null;
    if (bind.some((text) => !/^.+=(true|false)$/.test(text))) return null;
    const bound = bind.map((text) => text.split("=")).map(([name, value]) => [name, value === "true"]);
    return { path: positionals[0], json, options: { ...Object.fromEntries(numbers), bind: Object.fromEntries(bound) } };
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
