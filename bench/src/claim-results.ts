import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Claim, ClaimOutcome } from "./claim.ts";

/** What bench/results/claims/<id>.json holds. */
export interface ClaimResult extends Omit<Claim, "run">, Omit<ClaimOutcome, "picture"> {
  /** Of the file that made it. */
  readonly fingerprint: string;
  readonly machine: string;
  /** What <id>.png beside it shows. */
  readonly picture?: string;
}

const sources = fileURLToPath(new URL("../src/claims", import.meta.url));
export const claimResults = fileURLToPath(new URL("../results/claims", import.meta.url));

/** Names of all claims. */
export const claimNames = (): string[] =>
  readdirSync(sources)
    .filter((file) => file.endsWith(".ts"))
    .map((file) => file.slice(0, -3))
    .sort();

/** Changes with the code of a claim, not with its comments. */
export function claimFingerprint(name: string): string {
  const code = readFileSync(join(sources, `${name}.ts`), "utf8")
    .replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "")
    .replace(/\s+/g, " ");
  return createHash("sha256").update(code).digest("hex").slice(0, 12);
}

/** The result of a claim, or null when it was not run. */
export function readClaim(name: string): ClaimResult | null {
  try {
    return JSON.parse(readFileSync(join(claimResults, `${name}.json`), "utf8")) as ClaimResult;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** All results, by name. */
export const readClaims = (): ClaimResult[] => claimNames().flatMap((name) => readClaim(name) ?? []);

/** Names of claims without a result. */
export const openClaims = (): string[] => claimNames().filter((name) => readClaim(name) === null);
