import fc from "fast-check";
import { expect, test } from "vitest";
import { element, escapeMarkup, fitText, formatNumber, textWidth } from "./svg.ts";

test("escaped text holds no markup, no lone surrogate and no control character, and unescapes to the original", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const escaped = escapeMarkup(text);
      expect(escaped).not.toMatch(/[<>"']|&(?!amp;|lt;|gt;|quot;|#39;)/);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must be gone
      expect(escaped).not.toMatch(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/);
    }),
  );
  expect(escapeMarkup(`<a href="x">'&amp;'</a>`)).toBe("&lt;a href=&quot;x&quot;&gt;&#39;&amp;amp;&#39;&lt;/a&gt;");
  expect(escapeMarkup("a\u0000b\ud800c😀")).toBe("a\ufffdb\ufffdc😀");
});

test("element escapes attributes, rounds pixels, leaves out undefined", () => {
  expect(element("rect", { x: 1 / 3, id: '"/><script>', fill: undefined })).toBe(
    '<rect x="0.33" id="&quot;/&gt;&lt;script&gt;"/>',
  );
});

test("fitText never grows a text and keeps short ones", () => {
  expect(fitText("query", 100)).toBe("query");
  expect(textWidth(fitText("encoder.layer.11.attention.self.query", 80))).toBeLessThanOrEqual(80);
  expect(fitText("😀😀😀😀😀😀", 30)).toMatch(/^(😀)+…$/u);
});

test.each([
  [0, "0"],
  [1234567, "1,234,567"],
  [0.66666, "0.6667"],
  [12345.678, "12,346"],
  [1e-7, "1e-7"],
  [2.5e12, "2.5e+12"],
  [-0.25, "-0.25"],
  [Number.NaN, "NaN"],
])("formatNumber(%d) is %s", (value, text) => {
  expect(formatNumber(value)).toBe(text);
});
