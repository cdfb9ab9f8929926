import { PeftError } from "@onnx-peft/core";
import { asyncBufferFromFile, type FileMetaData, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import type { DataLimits } from "./limits.ts";
import { dataInvalid, type RawRow } from "./raw-row.ts";

const unreadable = (file: string, cause: unknown): PeftError =>
  new PeftError(
    "DATA_INVALID",
    `expected a Parquet file at ${file}: ${cause instanceof Error ? cause.message : String(cause)}.`,
    {
      hint: "Files compressed by other codecs than snappy must be written anew with snappy.",
      details: { file },
      cause,
    },
  );

/** Refuses what cannot be right or would not fit, before any data is read. */
function checkMetadata(
  file: string,
  metadata: FileMetaData,
  columns: readonly string[],
  limits: Required<DataLimits>,
): void {
  const topLevel = metadata.schema[0]?.num_children ?? 0;
  if (topLevel > limits.maxColumns) {
    throw dataInvalid(file, [
      { where: "schema", problem: `expected at most ${limits.maxColumns} columns, received ${topLevel}.` },
    ]);
  }
  for (const [index, group] of metadata.row_groups.entries()) {
    const rows = Number(group.num_rows);
    if (!Number.isSafeInteger(rows) || rows < 0) {
      const problem = `expected a number of rows, received ${group.num_rows}.`;
      throw dataInvalid(file, [{ where: `row group ${index}`, problem }]);
    }
    const bytes = group.columns.reduce((sum, { meta_data }) => {
      const wanted = meta_data && columns.includes(meta_data.path_in_schema[0] ?? "");
      return sum + (wanted ? Number(meta_data.total_uncompressed_size) : 0);
    }, 0);
    if (bytes > limits.maxRowGroupBytes) {
      const problem = `expected at most ${limits.maxRowGroupBytes} bytes, received ${bytes}; raise limits.maxRowGroupBytes if the memory is there.`;
      throw dataInvalid(file, [{ where: `row group ${index}`, problem }]);
    }
  }
}

/**
 * Parquet (uncompressed or snappy), one row group in memory at a time; only the wanted columns are read.
 *
 * @param columns names; those the file lacks are left out of the values.
 */
export async function* readParquet(
  file: string,
  columns: readonly string[],
  limits: Required<DataLimits>,
): AsyncGenerator<RawRow[]> {
  const buffer = await asyncBufferFromFile(file);
  const metadata = await parquetMetadataAsync(buffer).catch((error: unknown) => {
    throw unreadable(file, error);
  });
  checkMetadata(file, metadata, columns, limits);
  const present = new Set(
    metadata.row_groups.flatMap((group) => group.columns.map((c) => c.meta_data?.path_in_schema[0])),
  );
  const wanted = columns.filter((name) => present.has(name));
  let first = 0;
  for (const group of metadata.row_groups) {
    const end = first + Number(group.num_rows);
    const rows =
      wanted.length === 0
        ? new Array<Record<string, unknown>>(Math.min(end - first, 1)).fill({})
        : await parquetReadObjects({ file: buffer, metadata, columns: wanted, rowStart: first, rowEnd: end }).catch(
            (error: unknown) => {
              throw unreadable(file, error);
            },
          );
    if (wanted.length > 0 && rows.length !== end - first) {
      throw unreadable(file, new Error(`expected ${end - first} rows in a row group, received ${rows.length}`));
    }
    const start = first;
    // Rows are counted from 1, as lines are.
    yield rows.map((values, i) => ({ where: `row ${start + i + 1}`, values }));
    first = end;
  }
}
