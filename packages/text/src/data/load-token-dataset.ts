import { columnReader } from "./columns.ts";
import { withDefaults } from "./limits.ts";
import { convertRows } from "./raw-row.ts";
import { openSource, type SourceOptions } from "./stream-dataset.ts";

/** A sentence in words, with a tag for each. */
export interface TokenRow {
  readonly tokens: readonly string[];
  readonly tags: readonly string[];
}

export interface TokenDatasetOptions extends SourceOptions {
  /** Default "tokens" and "tags". */
  columns?: { tokens?: string; tags?: string };
  /** Names of numeric tags, as data sets on the hub store them. */
  tagNames?: readonly string[];
  /** Reads no more sentences than this. */
  limit?: number;
}

/**
 * Streams tagged sentences: JSON Lines or Parquet with two lists per row, or CoNLL files.
 *
 * @throws PeftError as `streamTextDataset`; lists of different lengths are bad rows.
 * @example
 * for await (const { tokens, tags } of streamTokenDataset("train.conll")) use(tokens, tags);
 */
export async function* streamTokenDataset(path: string, options: TokenDatasetOptions = {}): AsyncGenerator<TokenRow> {
  const { columns = {}, tagNames, limit = Number.POSITIVE_INFINITY } = options;
  const { tokens: tokenColumn = "tokens", tags: tagColumn = "tags" } = columns;
  const limits = withDefaults(options.limits);
  const source = await openSource(path, [tokenColumn, tagColumn], options, limits);
  if (limit <= 0) return;
  let count = 0;
  for await (const row of convertRows(
    path,
    source,
    (values, report): TokenRow => {
      const read = columnReader(values, report);
      const tokens = read.texts(tokenColumn);
      const tags = tagNames ? namedTags(values[tagColumn], tagNames, report) : read.texts(tagColumn);
      if (tokens.length > 0 && tags.length > 0 && tokens.length !== tags.length) {
        report(`expected a tag per token, received ${tokens.length} tokens and ${tags.length} tags.`);
      }
      return { tokens, tags };
    },
    limits,
  )) {
    yield row;
    if (++count >= limit) return;
  }
}

function namedTags(ids: unknown, names: readonly string[], report: (problem: string) => void): string[] {
  const found = Array.isArray(ids) ? ids.map((id) => names[Number(id)]) : [];
  if (found.length > 0 && found.every((name) => name !== undefined)) return found;
  report(`expected a list of tag numbers from 0 to ${names.length - 1}.`);
  return [];
}

/** Reads all tagged sentences of a file; see {@link streamTokenDataset}. */
export async function loadTokenDataset(path: string, options: TokenDatasetOptions = {}): Promise<TokenRow[]> {
  const rows: TokenRow[] = [];
  for await (const row of streamTokenDataset(path, options)) rows.push(row);
  return rows;
}
