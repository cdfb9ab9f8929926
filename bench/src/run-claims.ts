/**
 * Checks what papers say, by training:
 *   npm run claims -- [name...] [--again]
 * Without names, every claim that has no result or whose code has changed since. Trainings that were made are not made
 * again (`runs/claims/`), so an interrupted run goes on. Writes bench/results/claims/<name>.json; `npm run readme` makes
 * docs/claims.md of them.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { atomicWrite } from "@onnx-peft/core";
import { type Claim, createClaimContext } from "./claim.ts";
import { type ClaimResult, claimFingerprint, claimNames, claimResults, readClaim } from "./claim-results.ts";
import { machineName } from "./machine.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { again: { type: "boolean", default: false } },
});
const known = claimNames();
const unknown = positionals.filter((name) => !known.includes(name));
if (unknown.length > 0)
  throw new RangeError(`No claim is called ${unknown.join(", ")}; there are ${known.join(", ")}.`);

const isDue = (name: string): boolean =>
  positionals.includes(name) || values.again || readClaim(name)?.fingerprint !== claimFingerprint(name);
const due = (positionals.length > 0 ? positionals : known).filter(isDue);
await mkdir(claimResults, { recursive: true });
let done = 0;
for (const name of due) {
  console.log(`${++done} of ${due.length}: ${name}`);
  try {
    const { claim } = (await import(new URL(`./claims/${name}.js`, import.meta.url).href)) as { claim: Claim };
    if (claim.id !== name) throw new RangeError(`The claim in ${name}.ts calls itself "${claim.id}".`);
    const { run, ...about } = claim;
    const { picture, ...outcome } = await run.call(
      claim,
      await createClaimContext(name, (text) => console.log(`  ${text}`)),
    );
    if (picture) await atomicWrite(join(claimResults, `${name}.png`), picture.png);
    const result: ClaimResult = {
      ...{ ...about, ...outcome, ...(picture && { picture: picture.caption }) },
      ...{ fingerprint: claimFingerprint(name), machine: machineName(1) },
    };
    await atomicWrite(join(claimResults, `${name}.json`), `${JSON.stringify(result, null, 2)}\n`);
    console.log(`  ${outcome.holds ? "holds" : "does not hold"}: ${JSON.stringify(outcome.figures)}`);
  } catch (error) {
    console.error(`  ${name} failed:`, error);
    process.exitCode = 1;
  }
}
