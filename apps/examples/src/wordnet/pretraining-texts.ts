import { isHeldOut } from "./held-out.ts";
import { partsOfSpeech, readSynsets } from "./synsets.ts";

/**
 * One text per WordNet sense: its words and their definition, as a dictionary has them. Senses whose definition is held
 * out for evaluation are left out as a whole. Example sentences are not used: the same time buys more epochs of the
 * language that the backbone is for.
 */
export function pretrainingTexts(): string[] {
  return partsOfSpeech.flatMap((pos) =>
    readSynsets(pos).flatMap(({ lemmas, definition }) =>
      isHeldOut(definition) ? [] : [`${lemmas.join(", ")}: ${definition}`],
    ),
  );
}
