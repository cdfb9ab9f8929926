import { PeftError } from "../../errors.ts";

/** The PeftError that `work` throws; anything else, or nothing, fails the test. */
export function errorOf(work: () => unknown): PeftError {
  try {
    work();
  } catch (error) {
    if (error instanceof PeftError) return error;
    throw new Error(`expected a PeftError, received ${String(error)}`, { cause: error });
  }
  throw new Error("expected a PeftError, nothing was thrown");
}
