/** Options of everything that tokenises many rows. */
export interface EncodeOptions {
  /** Most tokens of a row, special tokens included. Default: what the tokenizer's config says, at most 512. */
  maxLength?: number;
  /** Stops between two time slices. */
  signal?: AbortSignal;
}
