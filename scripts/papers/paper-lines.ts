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
  test: file.includes("/") ? file : `${methods}/${file}`,
  title,
});
export const line = (says: string, ...by: readonly Proof[]): PaperLine => ({ says, by });

/** Lines that the matrix over all methods shows. */
export const matrix = {
  start: shown("behaviour.test.ts", "a new adapter is the identity as declared, a moved one is not"),
  merge: shown("behaviour.test.ts", "merged equals unmerged, and unmerging gives the base back"),
  files: shown("behaviour.test.ts", "saved and read back, tensors, options and unknown fields"),
  swap: shown("behaviour.test.ts", "swaps adapters and none in one session"),
  two: shown("behaviour.test.ts", "two adapters merged one after the other"),
  gradients: shown("behaviour.test.ts", "gradients of the adapter, and of it alone, equal finite differences"),
  onlyAdapter: shown("training.test.ts", "the loss falls, and nothing but trained tensors moves"),
  resume: shown("training.test.ts", "%s: resumed in the middle it goes on bit for bit"),
} as const;

/** Layers and short trainings beside PyTorch. */
export const beside = {
  layer: shown("papers.golden.test.ts", "layer: %s"),
  training: shown("papers.golden.test.ts", "training: %s"),
} as const;
