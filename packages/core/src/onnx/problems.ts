import { PeftError } from "../errors.ts";

/** One defect of a file: a stable code and a sentence. */
export interface Problem {
  readonly code: string;
  readonly message: string;
}

/** How many problems one error spells out; its details have more. */
const shown = 20;
/** How many its details keep. */
const kept = 1000;

/**
 * Throws one error that lists the problems; nothing when there is none. Its code is that of the problems when they
 * agree, else ONNX_INVALID.
 */
export function throwProblems(problems: readonly Problem[], what: string): void {
  const [first] = problems;
  if (!first) return;
  const code = problems.every((problem) => problem.code === first.code) ? first.code : "ONNX_INVALID";
  const lines = problems.slice(0, shown).map(({ message }) => `- ${message}`);
  if (problems.length > shown) lines.push(`- and ${problems.length - shown} more`);
  const count = problems.length === 1 ? "a problem" : `${problems.length} problems`;
  throw new PeftError(code, `${what} has ${count}:\n${lines.join("\n")}`, {
    details: {
      count: problems.length,
      problems: problems.slice(0, kept).map(({ code: own, message }) => ({ code: own, message })),
    },
  });
}
