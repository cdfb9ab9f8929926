import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { listMethods } from "../../packages/core/src/methods/registry.ts";
import { papers, papersPage } from "./papers-page.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const sources = new Map<string, string>();
const read = (path: string): string => {
  const known = sources.get(path) ?? readFileSync(join(root, path), "utf8");
  sources.set(path, known);
  return known;
};
/** A penalty and a search of modules: they go with methods and are none. */
const aboutTraining = ["2402.01911", "2502.08905"];
/** Titles as a source file writes them. */
const written = (title: string): string[] => [`"${title}"`, `'${title}'`, `\`${title}\``];

describe.each(papers.map((paper) => [paper.title, paper] as const))("%s", (_, { paper, lines }) => {
  test("is a registered method's paper, or one about how methods are trained", () => {
    expect([...listMethods().map((method) => method.paper), ...aboutTraining]).toContain(paper);
  });
  test.each(lines.map(({ says, by }) => [says, by] as const))("%s", (_says, by) => {
    expect(by.length).toBeGreaterThan(0);
    for (const proof of by) {
      if ("claim" in proof)
        expect(existsSync(join(root, "bench/results/claims", `${proof.claim}.json`)), proof.claim).toBe(true);
      if ("test" in proof) {
        const source = read(proof.test);
        expect(
          written(proof.title).some((title) => source.includes(title)),
          `${proof.test}: ${proof.title}`,
        ).toBe(true);
      }
    }
  });
});

test("a title that a test no longer has is noticed", () => {
  expect(written("no test of this name").some((title) => read("scripts/papers/low-rank.ts").includes(title))).toBe(
    false,
  );
  expect(papersPage(papers.slice(0, 1))).toContain("| The official layer over ten SGD steps");
});
