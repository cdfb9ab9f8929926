import { lowRankPapers } from "./low-rank.ts";
import type { PaperLines, Proof } from "./paper-lines.ts";
import { schedulePapers } from "./schedules.ts";
import { transformPapers } from "./transforms.ts";

/** What implementations of papers show, and where. */
export const papers: readonly PaperLines[] = [...lowRankPapers, ...schedulePapers, ...transformPapers];

const cell = (text: string): string => text.replaceAll("|", "\\|");

const proofText = (proof: Proof, failed: ReadonlySet<string>): string => {
  if ("test" in proof) return `[${proof.test.split("/").at(-1)}](../${proof.test}): ${cell(proof.title)}`;
  if ("elsewhere" in proof) return cell(proof.elsewhere);
  const link = `[claim ${proof.claim}](claims.md#${proof.claim})`;
  return failed.has(proof.claim) ? `${link}: **does not hold** as measured here` : link;
};

/**
 * docs/papers.md: every line that an implementation of a paper has to show, with the test or claim that shows it.
 * @param failed names of claims that were measured and do not hold
 */
export function papersPage(all: readonly PaperLines[], failed: ReadonlySet<string> = new Set()): string {
  const section = ({ title, paper, lines }: PaperLines): string[] => [
    `## ${title}`,
    "",
    `[arXiv ${paper}](https://arxiv.org/abs/${paper})`,
    "",
    "| What is to be shown | Where |",
    "| --- | --- |",
    ...lines.map(({ says, by }) => `| ${cell(says)} | ${by.map((proof) => proofText(proof, failed)).join("<br>")} |`),
    "",
  ];
  return [
    "# Papers, line by line",
    "",
    "What an implementation of a paper has to show before it may carry its name, and the test or the claim that shows it. A test checks that they exist.",
    "Statements that take training are claims, with their figures in [claims.md](claims.md). Written by `npm run readme`.",
    "",
    ...all.flatMap(section),
  ].join("\n");
}
