import { isHeldOut } from "./held-out.ts";
import { partsOfSpeech, readSynsets } from "./synsets.ts";

/**
 * One text per WordNet sense: its words and their definition, as a dictionary has them, then its example sentences.
 * Senses whose definition is held out for evaluation are left out as a whole.
 */
export function pretrainingTexts(): string[] {
  return partsOfSpeech.flatMap((pos) =>
    readSynsets(pos).flatMap(({ lemmas, definition, examples }) =>
      isHeldOut(definition) ? [] : [`${lemmas.join(", ")}: ${definition}`, ...examples],
    ),
  );
}
