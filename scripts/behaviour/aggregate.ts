import type { BehaviourCheck } from "../../packages/core/src/methods/testing/behaviour/log.ts";
import { type GroundName, groundNames } from "../../packages/core/src/methods/testing/ground-names.ts";

/** What was found of one method on one ground, over its tried configurations. */
export interface GroundBehaviour {
  readonly method: string;
  readonly ground: GroundName;
  /** Configurations that were tried there; 0 where the method is refused. */
  readonly configurations: number;
  /** Capability to how it was found; where configurations differ, each finding once. */
  readonly found: Readonly<Record<string, readonly string[]>>;
}

const order = (ground: GroundName): number => groundNames.indexOf(ground);

/** One entry per method and ground, sorted. */
export function aggregateBehaviour(checks: readonly BehaviourCheck[]): GroundBehaviour[] {
  const groups = new Map<string, BehaviourCheck[]>();
  for (const check of checks) {
    const key = `${check.method}\n${check.ground}`;
    groups.set(key, [...(groups.get(key) ?? []), check]);
  }
  const entries = [...groups.values()].flatMap((group): GroundBehaviour[] => {
    const [first] = group;
    if (!first) return [];
    const names = [...new Set(group.map((check) => check.capability))].sort();
    const found = names.map((name) => {
      const results = group.flatMap(({ capability, result }) => (capability === name ? [result] : []));
      return [name, [...new Set(results)].sort()] as const;
    });
    const tried = group.filter(({ capability }) => capability !== "modules");
    const configurations = new Set(tried.map(({ variant }) => variant)).size;
    return [{ method: first.method, ground: first.ground, configurations, found: Object.fromEntries(found) }];
  });
  return entries.sort((a, b) =>
    a.method === b.method ? order(a.ground) - order(b.ground) : a.method < b.method ? -1 : 1,
  );
}

/** docs/behaviour.jsonl: one method and ground a line, so that changes can be read and merged. */
export const formatBehaviour = (entries: readonly GroundBehaviour[]): string =>
  entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");

/** Reads what {@link formatBehaviour} wrote. */
export const parseBehaviour = (text: string): GroundBehaviour[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as GroundBehaviour);
