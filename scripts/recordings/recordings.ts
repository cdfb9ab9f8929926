import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { behaviourLog } from "../../packages/core/src/methods/testing/behaviour/log.ts";
import { onGradientCheck } from "../../packages/core/src/testing/check-log.ts";
import { aggregateBehaviour, formatBehaviour } from "../behaviour/aggregate.ts";
import { aggregate, formatChecks } from "../gradient-checks/aggregate.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Checks that tests leave while they run, and the committed file that counts them. */
export interface Recording {
  readonly name: string;
  /** Paths of the test files whose checks are recorded; the file is compared when all of them ran and passed. */
  tests(): readonly string[];
  listen(push: (check: unknown) => void): () => void;
  /** The committed file, from all checks of a run. */
  format(checks: readonly unknown[]): string;
  readonly file: string;
}

const testsIn = (folder: string, name: RegExp): string[] =>
  readdirSync(join(root, folder))
    .filter((file) => name.test(file))
    .map((file) => join(root, folder, file));

type ChecksOf<F extends (checks: readonly never[]) => unknown> = Parameters<F>[0];

export const recordings: readonly Recording[] = [
  {
    name: "gradient-checks",
    tests: () => testsIn(join("packages", "core", "src", "gradients"), /\.test\.ts$/),
    listen: onGradientCheck,
    format: (checks) => formatChecks(aggregate(checks as ChecksOf<typeof aggregate>)),
    file: join(root, "docs", "gradient-checks.jsonl"),
  },
  {
    name: "behaviour",
    tests: () => testsIn(join("packages", "core", "src", "methods"), /^(behaviour-.*|training)\.test\.ts$/),
    listen: behaviourLog.on,
    format: (checks) => formatBehaviour(aggregateBehaviour(checks as ChecksOf<typeof aggregateBehaviour>)),
    file: join(root, "docs", "behaviour.jsonl"),
  },
];
