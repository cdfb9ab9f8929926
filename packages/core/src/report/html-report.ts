import { PeftError } from "../errors.ts";
import { escapeMarkup, formatNumber } from "./svg.ts";

/** A table of a report. Columns that hold numbers only are aligned to the right. */
export interface ReportTable {
  columns: readonly string[];
  rows: readonly (readonly (string | number)[])[];
  caption?: string;
}

/** A part of a report, shown in this order: text, table, charts. */
export interface ReportSection {
  heading: string;
  /** Paragraphs of plain text. */
  text?: string | readonly string[];
  table?: ReportTable;
  /** Markup from the chart functions of this folder. */
  svg?: string | readonly string[];
}

export interface Report {
  title: string;
  /** Plain text under the title. */
  summary?: string;
  sections: readonly ReportSection[];
}

const STYLE = `
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
caption { caption-side: bottom; text-align: left; opacity: 0.75; padding-top: 0.4rem; }
th, td { padding: 0.3rem 0.9rem 0.3rem 0; text-align: left; border-bottom: 1px solid rgb(128 128 128 / 0.35); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; overflow-x: auto; } svg { max-width: 100%; height: auto; }
`;

/** Nothing is loaded and nothing runs, whatever a label or a file name contains. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const listOf = (value: string | readonly string[] | undefined): readonly string[] =>
  value === undefined ? [] : typeof value === "string" ? [value] : value;

function tableMarkup({ columns, rows, caption }: ReportTable, heading: string): string {
  const bad = rows.findIndex((row) => row.length !== columns.length);
  if (bad >= 0) {
    throw new PeftError(
      "REPORT_TABLE_SHAPE",
      `expected ${columns.length} cells a row, received ${rows[bad]?.length} in row ${bad} of the table in "${heading}".`,
    );
  }
  const classOf = columns.map((_, i) =>
    rows.length > 0 && rows.every((row) => typeof row[i] === "number") ? ' class="number"' : "",
  );
  const cell = (tag: "th" | "td", value: string | number, i: number): string =>
    `<${tag}${classOf[i]}>${escapeMarkup(typeof value === "number" ? formatNumber(value) : value)}</${tag}>`;
  const head = `<thead><tr>${columns.map((name, i) => cell("th", name, i)).join("")}</tr></thead>`;
  const body = rows.map((row) => `<tr>${row.map((value, i) => cell("td", value, i)).join("")}</tr>`).join("\n");
  const note = caption === undefined ? "" : `<caption>${escapeMarkup(caption)}</caption>`;
  return `<table>${note}${head}\n<tbody>\n${body}\n</tbody></table>`;
}

function figureMarkup(svg: string, heading: string): string {
  if (!svg.startsWith("<svg ") || !svg.endsWith("</svg>")) {
    throw new PeftError(
      "REPORT_SVG_INVALID",
      `expected one <svg> element, received ${svg.slice(0, 40)} in section "${heading}".`,
    );
  }
  return `<figure>${svg}</figure>`;
}

const paragraphs = (texts: readonly string[]): string[] => texts.map((text) => `<p>${escapeMarkup(text)}</p>`);

/**
 * One self-contained HTML page: no scripts, no external resources (a content security policy in the page forbids both), light
 * and dark. Equal input gives equal bytes. All text is escaped; `svg` is inserted as it is.
 *
 * @throws PeftError REPORT_TABLE_SHAPE, REPORT_SVG_INVALID.
 * @example
 * htmlReport({ title: "Run 12", sections: [{ heading: "Loss", svg: lineChart(series, { yScale: "log" }) }] });
 */
export function htmlReport({ title, summary, sections }: Report): string {
  const parts = sections.flatMap(({ heading, text, table, svg }) => [
    `<section><h2>${escapeMarkup(heading)}</h2>`,
    ...paragraphs(listOf(text)),
    ...(table === undefined ? [] : [tableMarkup(table, heading)]),
    ...listOf(svg).map((markup) => figureMarkup(markup, heading)),
    "</section>",
  ]);
  return `<!doctype html>
<html lang="en"><head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeMarkup(title)}</title>
<style>${STYLE}</style>
</head><body>
<h1>${escapeMarkup(title)}</h1>
${[...paragraphs(listOf(summary)), ...parts].join("\n")}
</body></html>
`;
}
