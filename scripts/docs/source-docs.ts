import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Documented {
  readonly name: string;
  /** First sentence of its doc comment, without its last point. */
  readonly summary: string;
  /** Source from the name on, enough to tell kinds of exports apart. */
  readonly declaration: string;
}

const exported = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*export (?:async )?(?:function|const) (\w+)(?=([\s\S]{0,400}))/g;

/** The exported, documented functions and constants in the sources of a folder (tests left out), by name. */
export function documentedExports(folder: string): Documented[] {
  const found: Documented[] = [];
  for (const file of readdirSync(folder)) {
    if (!file.endsWith(".ts") || file.endsWith(".test.ts")) continue;
    const source = readFileSync(join(folder, file), "utf8");
    for (const [, comment = "", name = "", declaration = ""] of source.matchAll(exported)) {
      const text = comment
        .replace(/^\s*\* ?/gm, " ")
        .replace(/\s+/g, " ")
        .trim();
      found.push({ name, summary: /^(.*?)[.:](?: |$)/.exec(text)?.[1] ?? text, declaration });
    }
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}
