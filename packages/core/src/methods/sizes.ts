import { PeftError } from "../errors.ts";

/** A size in the config that does not fit a module. */
export const sizeError = (option: string, inFeatures: number, outFeatures: number): PeftError =>
  new PeftError(
    "SIZE_MISMATCH",
    `${option} does not divide a module of ${inFeatures} inputs and ${outFeatures} outputs.`,
    {
      hint: "Choose a divisor of the widths, or leave the module out with excludeModules.",
    },
  );
