/** What stands between `<!-- begin:NAME -->` and `<!-- end:NAME -->` of a Markdown file, by name. */
export type Blocks = Readonly<Record<string, string>>;

const marked = /(<!-- begin:(\S+) -->\n)[\s\S]*?(<!-- end:\2 -->)/g;

/**
 * The text with every marked block replaced; everything else stays as it is.
 * @throws Error when the text has a block that is not given, or lacks one that is.
 */
export function fillBlocks(text: string, blocks: Blocks): string {
  const missing = new Set(Object.keys(blocks));
  const filled = text.replace(marked, (_, begin: string, name: string, end: string) => {
    const content = blocks[name];
    if (content === undefined) throw new Error(`Nothing is given for the block "${name}".`);
    missing.delete(name);
    return content === "" ? `${begin}${end}` : `${begin}\n${content.trim()}\n\n${end}`;
  });
  if (missing.size > 0) throw new Error(`The text has no block ${[...missing].map((name) => `"${name}"`).join(", ")}.`);
  return filled;
}

export const fenced = (language: string, text: string): string => `\`\`\`${language}\n${text.trim()}\n\`\`\``;

/**
 * Source from the first occurrence of `from` to the next end of `to` (the end of the file without it), moved to the left margin.
 * @throws Error when either does not occur.
 */
export function excerpt(source: string, from: string, to?: string): string {
  const start = source.indexOf(from);
  const end = to === undefined ? source.length : source.indexOf(to, start) + to.length;
  if (start < 0 || (to !== undefined && end < start + to.length)) throw new Error(`No excerpt starts with "${from}".`);
  const margin = /^ */.exec(from)?.[0] ?? "";
  return source
    .slice(start, end)
    .replaceAll(new RegExp(`^${margin}`, "gm"), "")
    .trimEnd();
}
