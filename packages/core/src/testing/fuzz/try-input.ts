import { PeftError } from "../../errors.ts";
import type { FuzzTarget } from "./target.ts";

/** What one input may take. */
export interface FuzzLimits {
  /** Processor time of one input: the clock would also count what else the machine does. */
  readonly maxMs: number;
  /** Memory allocated for one input, plus `maxBytesPerByte` for each of its bytes. */
  readonly maxBytes: number;
  readonly maxBytesPerByte: number;
}

/**
 * Generous against noise, far below what hurts: reading the seeds takes a millisecond and some 100 kB. Decoded objects
 * take up to some 100 bytes for a byte of the file; several steps behind the parser copy them.
 */
export const defaultLimits: FuzzLimits = { maxMs: 2000, maxBytes: 64 << 20, maxBytesPerByte: 4096 };

export type FindingKind = "crash" | "code" | "slow" | "memory" | "pollution";

export type Outcome =
  | { readonly result: "accepted" }
  | { readonly result: "refused"; readonly code: string }
  | { readonly result: "finding"; readonly kind: FindingKind; readonly message: string };

interface Usage {
  readonly heap: number;
  readonly outside: number;
  readonly peakRss: number;
}

function usage(): Usage {
  const { heapUsed, external } = process.memoryUsage();
  return { heap: heapUsed, outside: external, peakRss: process.resourceUsage().maxRSS * 1024 };
}

/** Bytes that were allocated, as far as it can be seen: garbage that was collected on the way raised the peak before. */
const allocated = (before: Usage, after: Usage): number =>
  Math.max(after.heap - before.heap, after.outside - before.outside, after.peakRss - before.peakRss);

const finding = (kind: FindingKind, message: string): Outcome => ({ result: "finding", kind, message });

const describe = (error: unknown): string =>
  error instanceof Error ? `${error.name}: ${error.message}`.slice(0, 500) : String(error).slice(0, 500);

/** The result of the target's own work, before time and memory are looked at. */
function judge(target: FuzzTarget, error: unknown): Outcome {
  if (!PeftError.isInstance(error)) return finding("crash", describe(error));
  // The reader's fallback for its own defects wraps an error that is none of ours.
  if (error.details["defect"] === true) return finding("crash", describe(error));
  if (!target.codes.has(error.code))
    return finding("code", `unexpected code ${error.code}: ${error.message.slice(0, 300)}`);
  return { result: "refused", code: error.code };
}

function pollution(): string | null {
  const keys = [...Object.keys(Object.prototype), ...Object.keys(Array.prototype)];
  if (keys.length === 0) return null;
  for (const key of keys) {
    delete (Object.prototype as Record<string, unknown>)[key];
    delete (Array.prototype as unknown as Record<string, unknown>)[key];
  }
  return keys.join(", ");
}

async function once(target: FuzzTarget, input: Uint8Array, limits: FuzzLimits): Promise<Outcome> {
  const before = usage();
  const started = process.cpuUsage();
  let outcome: Outcome = { result: "accepted" };
  try {
    const running = target.run(input);
    if (running) await running;
  } catch (error) {
    outcome = judge(target, error);
  }
  const { user, system } = process.cpuUsage(started);
  const elapsedMs = (user + system) / 1000;
  if (outcome.result === "finding") return outcome;
  const polluted = pollution();
  if (polluted !== null) return finding("pollution", `prototypes have got ${polluted}`);
  if (elapsedMs > limits.maxMs) return finding("slow", `${Math.round(elapsedMs)} ms for ${input.length} bytes`);
  const bytes = allocated(before, usage());
  if (bytes > limits.maxBytes + limits.maxBytesPerByte * input.length) {
    return finding("memory", `${Math.round(bytes / 2 ** 20)} MB for ${input.length} bytes`);
  }
  return outcome;
}

/** Time and memory depend on what else the machine does: such a finding counts when it comes again. */
export async function tryInput(
  target: FuzzTarget,
  input: Uint8Array,
  limits: FuzzLimits = defaultLimits,
): Promise<Outcome> {
  const first = await once(target, input, limits);
  if (first.result !== "finding" || (first.kind !== "slow" && first.kind !== "memory")) return first;
  return once(target, input, limits);
}
