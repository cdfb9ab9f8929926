/** Reads typed fields out of a row and reports what is wrong with them. */
export interface ColumnReader {
  /** A text that is not empty. */
  text(column: string): string;
  number(column: string): number;
  /** A class name; whole numbers and booleans become their text. */
  className(column: string): string;
  /** Class names from a list, or from a text cut at `separator`; may be empty. */
  classNames(column: string, separator: string): string[];
  /** A list of texts that are not empty. */
  texts(column: string): string[];
}

const shown = (value: unknown): string => {
  const text = typeof value === "bigint" ? String(value) : (JSON.stringify(value) ?? "nothing");
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
};

/** The value as a class name, or null. */
function asClassName(value: unknown): string | null {
  if (typeof value === "string" && value.trim() !== "") return value;
  if (typeof value === "boolean" || typeof value === "bigint" || Number.isInteger(value)) return String(value);
  return null;
}

/** Strict: all of the text must be the number; "", "1,5" and "0x10" are none. */
function asNumber(value: unknown): number {
  if (typeof value === "string")
    return /^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(value) ? Number(value) : Number.NaN;
  return typeof value === "number" || typeof value === "bigint" ? Number(value) : Number.NaN;
}

/** @param report is called once per bad field; the value returned then is a placeholder of the right type. */
export function columnReader(
  values: Readonly<Record<string, unknown>>,
  report: (problem: string) => void,
): ColumnReader {
  const get = (column: string, expected: string): { value: unknown } | null => {
    // Own properties only: a column called "constructor" is missing unless the file has it.
    if (Object.hasOwn(values, column)) return { value: values[column] };
    report(`expected ${expected} in column "${column}", received columns ${shown(Object.keys(values))}.`);
    return null;
  };
  const wrong = (column: string, expected: string, value: unknown): void =>
    report(`expected ${expected} in column "${column}", received ${shown(value)}.`);

  return {
    text(column) {
      const found = get(column, "a text");
      if (found === null) return "";
      if (typeof found.value === "string" && found.value.trim() !== "") return found.value;
      wrong(column, "a text that is not empty", found.value);
      return "";
    },
    number(column) {
      const found = get(column, "a number");
      if (found === null) return 0;
      const value = asNumber(found.value);
      if (!Number.isFinite(value)) wrong(column, "a finite number", found.value);
      return value;
    },
    className(column) {
      const found = get(column, "a class");
      if (found === null) return "";
      const name = asClassName(found.value);
      if (name === null) wrong(column, "a class name, a whole number or a boolean", found.value);
      return name ?? "";
    },
    classNames(column, separator) {
      const found = get(column, "a list of classes");
      if (found === null) return [];
      const { value } = found;
      const parts: unknown[] | null =
        typeof value === "string"
          ? value
              .split(separator)
              .map((part) => part.trim())
              .filter((part) => part !== "")
          : Array.isArray(value)
            ? value
            : null;
      const names = parts?.map(asClassName);
      if (names?.every((name) => name !== null)) return [...new Set(names)];
      wrong(column, `a list of class names, or a text with "${separator}" between them`, value);
      return [];
    },
    texts(column) {
      const found = get(column, "a list of texts");
      if (found === null) return [];
      const { value } = found;
      if (
        Array.isArray(value) &&
        value.length > 0 &&
        value.every((part) => typeof part === "string" && part.trim() !== "")
      )
        return value;
      wrong(column, "a list of texts that are not empty", value);
      return [];
    },
  };
}
