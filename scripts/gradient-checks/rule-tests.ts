import { readdirSync } from "node:fs";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const folder = join(fileURLToPath(new URL("../..", import.meta.url)), "packages", "core", "src", "gradients");

/** Files whose checks are counted: the tests of the gradient rules. */
export const ruleTests = (): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => join(folder, name));

export const isRuleTest = (path: string): boolean => path.split("/").join(sep).startsWith(`${folder}${sep}`);
