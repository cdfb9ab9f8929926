import type { ClaimResult } from "../../bench/src/claim-results.ts";

const shown = (figure: number | string): string => {
  if (typeof figure === "string") return figure;
  if (Number.isInteger(figure)) return figure.toLocaleString("en-US");
  return String(Number(figure.toPrecision(4)));
};

const section = ({ id, paper, statement, setup, figures, picture, holds, note, machine }: ClaimResult): string[] => [
  `## ${id}`,
  "",
  `**${statement}**${paper === null ? "" : ` ([${paper}](https://arxiv.org/abs/${paper}))`}`,
  "",
  `Run: ${setup}`,
  "",
  "| Figure | Value |",
  "| --- | --: |",
  ...Object.entries(figures).map(([name, figure]) => `| ${name} | ${shown(figure)} |`),
  "",
  ...(picture === undefined ? [] : [`![${id}](../bench/results/claims/${id}.png)`, "", picture, ""]),
  `${holds ? "**Holds.**" : "**Does not hold here.**"}${note === undefined ? "" : ` ${note}`}`,
  "",
  `\`npm run claims -- ${id}\`, ${machine}.`,
  "",
];

/**
 * docs/claims.md: what papers say, and what was measured of it.
 * @param open names of claims that were not run yet.
 */
export function claimsPage(results: readonly ClaimResult[], open: readonly string[] = []): string {
  const held = results.filter(({ holds }) => holds).length;
  return [
    "# Claims",
    "",
    "What papers say about their methods, checked by training: at small size, on the backbone of this repository and the definitions of",
    "WordNet unless a section says otherwise. A statement that does not hold at this size is shown with its figures like any other.",
    `${results.length} claims, ${held} of which hold. Written by \`npm run readme\` from bench/results/claims.`,
    "",
    "| Claim | Paper | Holds |",
    "| --- | --- | --- |",
    ...results.map(({ id, paper, holds }) => `| [${id}](#${id}) | ${paper ?? ""} | ${holds ? "yes" : "no"} |`),
    "",
    ...(open.length === 0
      ? []
      : [
          `Not run yet, and so nothing is said about them: ${open.map((name) => `[${name}](../bench/src/claims/${name}.ts)`).join(", ")}.`,
          "",
        ]),
    ...results.flatMap(section),
  ].join("\n");
}
