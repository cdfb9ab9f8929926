/**
 * Twelve coarse parts of speech, and which of Brown's tags each stands for (Francis and Kučera 1979). They follow the universal
 * tag set (Petrov et al. 2012, arXiv 1104.2086) with two changes: subordinating conjunctions (cs) are conjunctions, and
 * existential "there" (ex) is a pronoun.
 */
export const coarseTags = {
  NOUN: ["nn", "nns", "np", "nps", "nr", "nrs"],
  VERB: [
    ...["vb", "vbd", "vbg", "vbn", "vbz", "md"],
    ...["be", "bed", "bedz", "beg", "bem", "ben", "ber", "bez", "do", "dod", "doz", "hv", "hvd", "hvg", "hvn", "hvz"],
  ],
  ADJ: ["jj", "jjr", "jjs", "jjt"],
  ADV: ["rb", "rbr", "rbt", "rn", "ql", "qlp", "wrb", "wql", "*"],
  PRON: ["pn", "ppl", "ppls", "ppo", "pps", "ppss", "pp$$", "wps", "wpo", "ex"],
  DET: ["at", "ap", "abl", "abn", "abx", "dt", "dti", "dts", "dtx", "pp$", "wdt", "wp$"],
  ADP: ["in"],
  NUM: ["cd", "od"],
  CONJ: ["cc", "cs"],
  PART: ["to", "rp"],
  PUNCT: [".", ",", ":", "(", ")", "``", "''", "'", "--"],
  X: ["uh", "nil"],
} as const satisfies Record<string, readonly string[]>;

export type CoarseTag = keyof typeof coarseTags;

const coarseOf = new Map<string, CoarseTag>(
  Object.entries(coarseTags).flatMap(([coarse, fine]) => fine.map((tag) => [tag, coarse as CoarseTag] as const)),
);

/**
 * The coarse part of a tag as it stands in the corpus. Parts of titles, headlines and quoted words ("nn-tl", "nn-hl", "nn-nc")
 * count as what they are; of contractions ("ppss+md", we'll) the first word decides, and "n't" is part of its verb ("md*");
 * possessives are nouns ("np$"); foreign words ("fw-nn") are X.
 */
export function coarseTag(tag: string): CoarseTag {
  if (tag.startsWith("fw-")) return "X";
  const [first = ""] = tag.replace(/(-(tl|hl|nc))+$/, "").split("+");
  const known = coarseOf.get(first) ?? coarseOf.get(first.replace(/[*$]$/, ""));
  return known ?? "X";
}
