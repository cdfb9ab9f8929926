/** What a reader needs to choose a method; everything that follows from the method itself is not repeated here. */
export interface MethodEntry {
  readonly title: string;
  /** Trained values of one module. */
  readonly parameters: string;
  readonly use: string;
  readonly avoid: string;
  readonly cost: string;
  readonly source: string;
  /** Options that its config asks for, in the example count. */
  readonly example?: Readonly<Record<string, unknown>>;
}
