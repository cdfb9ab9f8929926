/** Makes any text safe inside XML and HTML, in content and in double-quoted attributes. */
export function escapeMarkup(text: string): string {
  return (
    text
      // Control characters are illegal in XML even when escaped: a single one makes a viewer refuse the whole image.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is removed
      .replaceAll(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd")
      .replaceAll(/\p{Surrogate}/gu, "\ufffd") // halves of a pair, which UTF-8 cannot hold
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
      .replaceAll("'", "&#39;")
  );
}

type Attributes = Record<string, string | number | undefined>;

/** Pixels with at most two decimals: finer is invisible and makes files large. */
const attributeText = (value: string | number): string =>
  typeof value === "number" ? String(Math.round(value * 100) / 100) : escapeMarkup(value);

/**
 * One element. Attribute values are escaped; `children` is markup already, so text must come through {@link escapeMarkup}.
 *
 * @example
 * element("text", { x: 4, fill: "currentColor" }, escapeMarkup(label));
 */
export function element(name: string, attributes: Attributes, children = ""): string {
  const list = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${attributeText(value as string | number)}"`)
    .join("");
  return children === "" ? `<${name}${list}/>` : `<${name}${list}>${children}</${name}>`;
}

/** Font size of all chart text in pixels. */
export const FONT_SIZE = 12;

/** Rough width of a text in a sans-serif font of {@link FONT_SIZE}: without a browser nothing measures exactly. */
export const textWidth = (text: string): number => Array.from(text).length * FONT_SIZE * 0.58;

/** Cuts a text so that it fits, with an ellipsis. */
export function fitText(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  const letters = Math.max(1, Math.floor(width / (FONT_SIZE * 0.58)) - 1);
  return `${Array.from(text).slice(0, letters).join("")}…`;
}

/** Text of a chart, coloured like the page around it. */
export function textElement(content: string, attributes: Attributes): string {
  return element("text", { fill: "currentColor", ...attributes }, escapeMarkup(content));
}

/** The outer `<svg>`, scaling down with the page; `title` is what screen readers say. */
export function svgDocument(width: number, height: number, title: string, content: string): string {
  return element(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      viewBox: `0 0 ${Math.ceil(width)} ${Math.ceil(height)}`,
      width: Math.ceil(width),
      height: Math.ceil(height),
      role: "img",
      "font-family": "system-ui, sans-serif",
      "font-size": FONT_SIZE,
    },
    element("title", {}, escapeMarkup(title || "chart")) + content,
  );
}

/** Colours that stay apart for colour-blind readers (Okabe and Ito), without the yellow that vanishes on white. */
export const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"] as const;

export const paletteColor = (index: number): string => PALETTE[index % PALETTE.length] as string;

/** A number as people write it: four significant digits, grouped thousands, powers of ten outside 1e-4 .. 1e9. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-4 || size >= 1e9)) return Number(value.toPrecision(3)).toExponential();
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  return value.toLocaleString("en-US", { maximumSignificantDigits: Math.max(4, Math.ceil(Math.log10(size))) });
}
