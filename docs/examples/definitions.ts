/** Writes runs/definitions.csv: 2,300 WordNet definitions with their category; none of the last 300 was seen in pre-training. */
import { mkdirSync, writeFileSync } from "node:fs";
import { glossClassification } from "../../apps/examples/src/wordnet/gloss-classification.ts";

const { train, validation } = glossClassification({ seed: 1, train: 2000, validation: 300 });
const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;
const lines = [...train, ...validation].map(({ text, label }) => `${quoted(text)},${quoted(label)}`);
mkdirSync("runs", { recursive: true });
writeFileSync("runs/definitions.csv", `text,label\n${lines.join("\n")}\n`);
