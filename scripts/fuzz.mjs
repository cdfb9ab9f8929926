// Fuzzes the parsers: npm run fuzz -- [--inputs 200000] [--seed 1] [--parser onnx,csv] [--report file.json] [--only index]
// Each parser runs in a process of its own with little memory. A process that stays at one input for too long is ended,
// which is a finding, and the rest goes on behind that input.
import { fork } from "node:child_process";
import { writeFileSync, writeSync } from "node:fs";
import os from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const packages = ["core", "text"];
const targetFiles = { core: "core-targets", text: "text-targets" };
const hangMs = 20_000;
const memoryMb = 512;
/** The ONNX reader is by far the largest parser. */
const shares = { onnx: 6, safetensors: 2, peft: 2 };
const self = fileURLToPath(import.meta.url);

async function loadTargets() {
  const all = {};
  for (const name of packages) {
    const module = await import(new URL(`../packages/${name}/dist/fuzz/${targetFiles[name]}.js`, import.meta.url));
    Object.assign(all, module.fuzzTargets);
  }
  return all;
}

/** In the child: fuzzes and writes the number of each input to descriptor 4 before it is tried. */
async function work({ parser, inputs, seed, from }) {
  const { fuzz } = await import(new URL("../packages/core/dist/testing/fuzz/fuzz.js", import.meta.url));
  const target = (await loadTargets())[parser]();
  const onInput = (index) => writeSync(4, `${index}\n`);
  process.send(await fuzz(target, { inputs, seed, from, onInput }), () => process.exit(0));
}

/** Runs a child until it is done, ends or hangs; gives its report or the input that it did not survive. */
function runChild(job) {
  return new Promise((done) => {
    const child = fork(self, ["--child", JSON.stringify(job)], {
      stdio: ["ignore", "inherit", "pipe", "ipc", "pipe"],
      execArgv: [`--max-old-space-size=${memoryMb}`],
    });
    let [index, changed, words, report, hung] = [job.from, Date.now(), "", null, false];
    child.stdio[4].on("data", (data) => {
      const lines = data.toString().trim().split("\n");
      [index, changed] = [Number(lines.at(-1)), Date.now()];
    });
    child.stderr.on("data", (data) => {
      words = `${words}${data}`.slice(-2000);
    });
    child.on("message", (message) => {
      report = message;
    });
    const watch = setInterval(() => {
      if (Date.now() - changed < hangMs) return;
      hung = true;
      child.kill("SIGKILL");
    }, 500);
    child.on("close", (code, signal) => {
      clearInterval(watch);
      if (report) done({ report });
      else
        done({
          index,
          kind: hung ? "hang" : "crash",
          message: hung ? `more than ${hangMs} ms` : `ended with ${signal ?? code}: ${words}`,
        });
    });
  });
}

async function fuzzParser(parser, inputs, seed) {
  const total = { parser, inputs: 0, seconds: 0, accepted: 0, refused: {}, findings: [] };
  const started = performance.now();
  for (let from = 0; from < inputs; ) {
    const { report, index, kind, message } = await runChild({ parser, inputs, seed, from });
    if (report) {
      total.inputs += report.inputs;
      total.accepted += report.accepted;
      for (const [code, count] of Object.entries(report.refused))
        total.refused[code] = (total.refused[code] ?? 0) + count;
      total.findings.push(...report.findings);
      break;
    }
    // What the child had counted is lost with it; a run with such a finding is not the one that is kept.
    total.findings.push({ parser, seed, index, kind, message });
    total.inputs += index + 1 - from;
    from = index + 1;
  }
  total.seconds = Number(((performance.now() - started) / 1000).toFixed(1));
  return total;
}

async function reproduce(parser, seed, index) {
  const { fuzzInput } = await import(new URL("../packages/core/dist/testing/fuzz/fuzz.js", import.meta.url));
  const { tryInput } = await import(new URL("../packages/core/dist/testing/fuzz/try-input.js", import.meta.url));
  const target = (await loadTargets())[parser]();
  const input = fuzzInput(target, seed, index);
  console.log(
    JSON.stringify({ input: Buffer.from(input).toString("base64"), ...(await tryInput(target, input)) }, null, 2),
  );
}

async function main() {
  const { values } = parseArgs({
    options: {
      inputs: { type: "string", default: "200000" },
      seed: { type: "string", default: "1" },
      parser: { type: "string" },
      report: { type: "string" },
      only: { type: "string" },
      child: { type: "string" },
    },
  });
  if (values.child) return work(JSON.parse(values.child));
  const known = Object.keys(await loadTargets());
  const parsers = values.parser?.split(",") ?? known;
  const unknown = parsers.filter((name) => !known.includes(name));
  const [inputs, seed] = [Number(values.inputs), Number(values.seed)];
  if (unknown.length > 0 || !Number.isSafeInteger(inputs) || !Number.isSafeInteger(seed)) {
    console.error(`expected whole numbers and parsers out of ${known.join(", ")}.`);
    process.exitCode = 2;
    return;
  }
  if (values.only !== undefined) return reproduce(parsers[0], seed, Number(values.only));
  const weight = (name) => shares[name] ?? 1;
  const sum = parsers.reduce((all, name) => all + weight(name), 0);
  const results = [];
  for (const name of parsers) {
    const result = await fuzzParser(name, Math.ceil((inputs * weight(name)) / sum), seed);
    results.push(result);
    const codes = Object.entries(result.refused).map(([code, count]) => `${code} ${count}`);
    console.log(
      `${name}: ${result.inputs} inputs in ${result.seconds} s, ${result.accepted} accepted, ${codes.join(", ")}`,
    );
    for (const found of result.findings) {
      console.log(`  FINDING ${found.kind} at --parser ${name} --seed ${seed} --only ${found.index}: ${found.message}`);
      if (found.input) console.log(`  smallest input, base64: ${found.input}`);
    }
  }
  const findings = results.reduce((all, { findings: list }) => all + list.length, 0);
  const total = results.reduce((all, { inputs: count }) => all + count, 0);
  console.log(`${total} inputs, ${findings} findings`);
  if (values.report) {
    const cpu = os.cpus()[0]?.model ?? "unknown";
    writeFileSync(
      values.report,
      `${JSON.stringify({ inputs: total, seed, findings, node: process.version, cpu, parsers: results }, null, 2)}\n`,
    );
  }
  process.exitCode = findings === 0 ? 0 : 1;
}

await main();
