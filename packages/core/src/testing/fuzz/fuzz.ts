import { createHash } from "node:crypto";
import { fuzzRandom } from "./fuzz-random.ts";
import { minimise } from "./minimise.ts";
import { byteMutations } from "./mutate-bytes.ts";
import type { FuzzTarget } from "./target.ts";
import { defaultLimits, type FindingKind, type FuzzLimits, tryInput } from "./try-input.ts";

/** Something a parser must not do, with the smallest input found for it. */
export interface Finding {
  readonly parser: string;
  readonly seed: number;
  /** Number of the input; it is made again from parser, seed and this. */
  readonly index: number;
  readonly kind: FindingKind | "hang";
  readonly message: string;
  /** Base64. */
  readonly input: string;
}

export interface FuzzReport {
  readonly parser: string;
  readonly inputs: number;
  readonly accepted: number;
  /** How often each code was the answer. */
  readonly refused: Readonly<Record<string, number>>;
  readonly findings: readonly Finding[];
}

export interface FuzzOptions {
  readonly inputs: number;
  readonly seed: number;
  /** First input, to go on behind one that never ended. Default 0. */
  readonly from?: number;
  readonly limits?: FuzzLimits;
  /** Called before each input. */
  readonly onInput?: (index: number) => void;
}

/** Input `index` of a run: a seed with one to eight damages, most of which know the format. */
export function fuzzInput(target: FuzzTarget, seed: number, index: number): Uint8Array {
  const random = fuzzRandom(target.name, seed, index);
  let input = random.pick(target.seeds);
  const times = random.chance(0.7) ? 1 : 1 + random.below(8);
  for (let i = 0; i < times; i++) {
    const structured = target.mutations.length > 0 && random.chance(0.85);
    input = random.pick(structured ? target.mutations : byteMutations)(input, random, target.seeds);
  }
  return input;
}

/** Equal findings are reported once: same kind, same words but for numbers and quoted names. */
const signature = (kind: string, message: string): string =>
  createHash("sha256")
    .update(`${kind} ${message.replaceAll(/"[^"]*"|\d+/g, "_").slice(0, 120)}`)
    .digest("hex");

/**
 * Feeds damaged inputs to a parser, one after the other, and reports everything that is neither accepted nor refused as
 * it should be. The same options give the same inputs.
 */
export async function fuzz(target: FuzzTarget, options: FuzzOptions): Promise<FuzzReport> {
  const { inputs, seed, from = 0, limits = defaultLimits, onInput } = options;
  const refused: Record<string, number> = {};
  const findings: Finding[] = [];
  const known = new Set<string>();
  let accepted = 0;
  for (let index = from; index < inputs; index++) {
    onInput?.(index);
    const input = fuzzInput(target, seed, index);
    const outcome = await tryInput(target, input, limits);
    if (outcome.result === "accepted") accepted++;
    else if (outcome.result === "refused") refused[outcome.code] = (refused[outcome.code] ?? 0) + 1;
    else {
      const { kind, message } = outcome;
      const own = signature(kind, message);
      if (known.has(own)) continue;
      known.add(own);
      const smallest = await minimise(input, async (candidate) => {
        const again = await tryInput(target, candidate, limits);
        return again.result === "finding" && signature(again.kind, again.message) === own;
      });
      findings.push({
        parser: target.name,
        seed,
        index,
        kind,
        message,
        input: Buffer.from(smallest).toString("base64"),
      });
    }
  }
  return { parser: target.name, inputs: inputs - from, accepted, refused, findings };
}
