import { expect, test } from "vitest";
import { excerpt, fenced, fillBlocks } from "./blocks.ts";

const text = "a\n<!-- begin:x -->\nold\n<!-- end:x -->\nb\n<!-- begin:y -->\n<!-- end:y -->\n";

test("blocks are replaced, the rest stays, and filling again changes nothing", () => {
  const filled = fillBlocks(text, { x: "new", y: "" });
  expect(filled).toBe("a\n<!-- begin:x -->\n\nnew\n\n<!-- end:x -->\nb\n<!-- begin:y -->\n<!-- end:y -->\n");
  expect(fillBlocks(filled, { x: "new", y: "" })).toBe(filled);
});

test("a block without content, and content without a block, are errors", () => {
  expect(() => fillBlocks(text, { x: "new" })).toThrow('block "y"');
  expect(() => fillBlocks(text, { x: "", y: "", z: "" })).toThrow('block "z"');
});

test("fenced text has no blank lines at its ends", () => {
  expect(fenced("ts", "\nf();\n")).toBe("```ts\nf();\n```");
});

test("an excerpt loses its margin, and must be there", () => {
  const source = "a\n  b: {\n    c\n  },\n  d\n";
  expect(excerpt(source, "  b", "\n  },")).toBe("b: {\n  c\n},");
  expect(excerpt(source, "  d")).toBe("d");
  expect(() => excerpt(source, "x")).toThrow('"x"');
  expect(() => excerpt(source, "a", "z")).toThrow('"a"');
});
