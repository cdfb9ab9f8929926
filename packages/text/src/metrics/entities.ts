import { PeftError } from "@onnx-peft/core";

/**
 * How tags become entities.
 * - "BIO": strict; an entity is B-x and the I-x that follow. An I without its B is no entity.
 * - "BIOES": strict; an entity is S-x, or B-x, any I-x, E-x. One without its E is no entity.
 * - "lenient": as the CoNLL-2000 script and seqeval's default; an I after another type or after O starts an entity.
 */
export type TagScheme = "BIO" | "BIOES" | "lenient";

/** Tokens start .. end (end included) of one type. */
export interface Entity {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

interface Tag {
  readonly prefix: string;
  readonly type: string;
}

const OUTSIDE: Tag = { prefix: "O", type: "" };
const prefixes: Record<TagScheme, string> = { BIO: "BIO", BIOES: "BIOES", lenient: "BIOES" };

function parseTag(text: string, scheme: TagScheme, position: number): Tag {
  if (text === "O") return OUTSIDE;
  const [prefix = "", type = ""] = [text.slice(0, 1), text.slice(2)];
  if (text[1] === "-" && type !== "" && prefix !== "O" && prefixes[scheme].includes(prefix)) return { prefix, type };
  throw new PeftError(
    "TAG_INVALID",
    `expected "O" or ${[...prefixes[scheme]].filter((p) => p !== "O").join(", ")} with "-" and a type, received ${JSON.stringify(text)} at token ${position}.`,
    { hint: "Choose the scheme that the data use." },
  );
}

/** B-x and S-x start; `inside` continues; BIOES wants an end. */
function strictEntities(tags: readonly Tag[], scheme: TagScheme): Entity[] {
  const entities: Entity[] = [];
  for (let i = 0; i < tags.length; ) {
    const { prefix, type } = tags[i] as Tag;
    const start = i++;
    if (prefix === "S") entities.push({ type, start, end: start });
    if (prefix !== "B") continue;
    let last = prefix;
    while (i < tags.length && last !== "E") {
      const tag = tags[i] as Tag;
      if ((tag.prefix !== "I" && tag.prefix !== "E") || tag.type !== type) break;
      last = tag.prefix;
      i++;
    }
    if (scheme === "BIO" || last === "E") entities.push({ type, start, end: i - 1 });
  }
  return entities;
}

/** An entity ends wherever the type or O changes, before B and S, and after E and S. */
function lenientEntities(tags: readonly Tag[]): Entity[] {
  const entities: Entity[] = [];
  let previous = OUTSIDE;
  let start = 0;
  for (let i = 0; i <= tags.length; i++) {
    const tag = tags[i] ?? OUTSIDE;
    const cut =
      tag.type !== previous.type || "BS".includes(tag.prefix) || previous.prefix === "E" || previous.prefix === "S";
    if (cut && previous !== OUTSIDE) entities.push({ type: previous.type, start, end: i - 1 });
    if (cut) start = i;
    previous = tag;
  }
  return entities;
}

/**
 * Entities of one tagged sentence.
 *
 * @throws PeftError TAG_INVALID for a tag that the scheme does not know.
 * @example
 * entitiesOf(["B-PER", "I-PER", "O"], "BIO"); // [{ type: "PER", start: 0, end: 1 }]
 */
export function entitiesOf(tags: readonly string[], scheme: TagScheme = "BIO"): Entity[] {
  const parsed = tags.map((text, i) => parseTag(text, scheme, i));
  return scheme === "lenient" ? lenientEntities(parsed) : strictEntities(parsed, scheme);
}
