// Exports tiny models of many architectures, checks every export, and writes docs/exports.md: npm run check:exports
// Options: --folder <where exports are kept, default parity/exports> --only name,name --table (judge what is there, export nothing)
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process, { env } from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { checkFile, onnxruntimeNode } from "@onnx-peft/core";
import { compareWithGolden } from "@onnx-peft/core/testing";

const here = fileURLToPath(new URL(".", import.meta.url));
const { values: given } = parseArgs({
  options: {
    folder: { type: "string", default: join(here, "exports") },
    only: { type: "string" },
    table: { type: "boolean", default: false },
  },
});
const kinds = ["torchscript14", "torchscript17", "dynamo"];
const titles = ["TorchScript, opset 14", "TorchScript, opset 17", "dynamo, opset 18"];

if (!given.table) {
  const python = env["PYTHON"] ?? join(here, ".venv/bin/python");
  const only = given.only === undefined ? [] : ["--only", given.only];
  const { status } = spawnSync(python, [join(here, "check_exports.py"), given.folder, ...only], { stdio: "inherit" });
  if (status !== 0) process.exit(1);
}

/** One cell of the table: ready means that outputs, loss and gradients are PyTorch's, and that the check found no limit. */
async function judge(name, kind) {
  const file = join(given.folder, name, `model_${kind}.onnx`);
  if (!existsSync(file)) return { text: "PyTorch does not export it", state: "absent" };
  const { verdict, reasons } = await checkFile(file, onnxruntimeNode, { threads: 1, kinds: ["linear", "conv"] });
  if (verdict === "not trainable") return { text: `not trainable: ${reasons[0]}`, state: "refused" };
  let golden;
  try {
    golden = await compareWithGolden(file);
  } catch (error) {
    // A size that is written into the graph is not that of the golden batch.
    if (verdict === "ready with limits") return { text: `ready with limits: ${reasons.join("; ")}`, state: "limits" };
    return { text: `PyTorch's gradients were not reproduced: ${error.message}`, state: "wrong" };
  }
  const { outputs, losses, gradients, missing } = golden;
  const worst = Math.max(...Object.values(gradients));
  const about = JSON.parse(await readFile(join(given.folder, name, "golden.json"), "utf8"));
  const noise = Math.max(...Object.values(about.relative_difference_float32_to_float64));
  const right = Math.max(outputs, ...Object.values(losses), worst) <= Math.max(1e-4, 4 * noise);
  const lost = missing.length === 0 ? "" : `; ${missing.length} of PyTorch's parameters have no site (${missing[0]})`;
  const limits = verdict === "ready" ? "" : `; ${reasons.join("; ")}`;
  const text = `${right ? verdict : "WRONG"}, ${worst.toExponential(0)}${lost}${limits}`;
  return { text, state: !right ? "wrong" : missing.length > 0 || limits !== "" ? "limits" : "ready" };
}

const names =
  given.only?.split(",") ??
  (await readdir(given.folder)).filter((n) => existsSync(join(given.folder, n, "golden.json")));
const rows = [];
const counts = { ready: 0, limits: 0, refused: 0, wrong: 0, absent: 0 };
for (const name of names.sort()) {
  const cells = [];
  for (const kind of kinds) {
    const { text, state } = await judge(name, kind);
    counts[state]++;
    cells.push(text.replaceAll("|", "\\|").replaceAll(/\s+/g, " ").slice(0, 200));
  }
  console.log(`${name}: ${cells.join(" | ")}`);
  const { class: className } = JSON.parse(await readFile(join(given.folder, name, "golden.json"), "utf8"));
  rows.push(`| ${name} | \`${className}\` | ${cells.join(" | ")} |`);
}
const total = counts.ready + counts.limits + counts.refused + counts.wrong;
const page = [
  "# Exports of many architectures",
  "",
  `Tiny random models of ${names.length} architectures (transformers), exported by PyTorch in three ways: ${total} files. Of these ${counts.ready} are ready,`,
  `${counts.limits} ready with limits, ${counts.refused} not trainable, ${counts.wrong} wrong. \`ready\` means that \`npm run check\` found no limit and that outputs, loss and the gradients`,
  "of LoRA on every linear layer agree with PyTorch and peft to 1e-4 (or four times PyTorch's own float32 error, where that is more); the number is the relative difference of the gradients. Written by",
  "`npm run check:exports` (needs Python: [parity/README.md](../parity/README.md)).",
  "",
  `| Architecture | Class | ${titles.join(" | ")} |`,
  "|---|---|---|---|---|",
  ...rows,
  "",
].join("\n");
if (given.only === undefined) await writeFile(join(here, "../docs/exports.md"), page);
console.log(counts);
process.exitCode = counts.wrong > 0 ? 1 : 0;
