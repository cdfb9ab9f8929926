/** Where a line is shown: a test by file and title, a claim, or the reason why it is not shown here. */
export type Proof =
  | { readonly test: string; readonly title: string }
  | { readonly claim: string }
  | { readonly elsewhere: string };

/** Something an implementation of a paper has to show. */
export interface PaperLine {
  readonly says: string;
  readonly by: readonly Proof[];
}

/** What the implementation of one paper shows, and where. */
export interface PaperLines {
  readonly title: string;
  /** arXiv number. */
  readonly paper: string;
  readonly lines: readonly PaperLine[];
}

const methods = "packages/core/src/methods";

/** A test of the methods' folder, or of another one by its path from the root. */
export const shown = (file: string, title: string): Proof => ({
  test: file.startsWith("packages/") ? file : `${methods}/${file}`,
  title,
});
export const line = (says: string, ...by: readonly Proof[]): PaperLine => ({ says, by });

/** Lines that the matrix over all methods shows. */
export const matrix = {
  start: shown("testing/behaviour/capabilities.ts", "identity"),
  merge: shown("testing/behaviour/capabilities.ts", "merge"),
  files: shown("testing/behaviour/capabilities.ts", "files"),
  swap: shown("testing/behaviour/capabilities.ts", "several in a session"),
  two: shown("testing/behaviour/capabilities.ts", "several merged"),
  gradients: shown("testing/behaviour/capabilities.ts", "gradients"),
  onlyAdapter: shown(
    "training.test.ts",
    "the loss falls, nothing but trained tensors moves, and a resumed run goes on bit for bit",
  ),
  resume: shown("training.test.ts", "%s: resumed in the middle it goes on bit for bit"),
} as const;

/** Layers and short trainings beside PyTorch. */
export const beside = {
  layer: shown("papers.golden.test.ts", "layer: %s"),
  training: shown("papers.golden.test.ts", "training: %s"),
} as const;
