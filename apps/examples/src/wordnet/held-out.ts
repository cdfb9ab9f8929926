/** 32-bit FNV-1a of a text. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

/** What makes two definitions the same one. */
export const definitionKey = (definition: string): string => definition.trim().toLowerCase();

/**
 * True for the fifth of all definitions that pre-training never sees. Validation and test definitions are drawn from these
 * only. It depends on the text alone, so equal definitions of different words are on the same side.
 */
export const isHeldOut = (definition: string): boolean => hash(definitionKey(definition)) % 5 === 0;
