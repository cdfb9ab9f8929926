/** Bounds on what a data file may ask for. */
export interface DataLimits {
  /** Bytes of one line, CSV record or text file. Default 4 MiB. */
  maxLineBytes?: number;
  /** Columns of a table. Default 1,000. */
  maxColumns?: number;
  /** Nesting of JSON. Default 32. */
  maxDepth?: number;
  /** Uncompressed bytes of the wanted columns in one Parquet row group. Default 1 GiB. */
  maxRowGroupBytes?: number;
  /** Bad rows that are listed before reading stops. Default 20. */
  maxProblems?: number;
  /** Rows that are read on after the first bad one, to find more. Default 1,000. */
  problemWindow?: number;
}

/** Fills in the defaults. */
export const withDefaults = (limits: DataLimits = {}): Required<DataLimits> => ({
  maxLineBytes: 4 * 1024 * 1024,
  maxColumns: 1000,
  maxDepth: 32,
  maxRowGroupBytes: 1024 ** 3,
  maxProblems: 20,
  problemWindow: 1000,
  ...limits,
});
