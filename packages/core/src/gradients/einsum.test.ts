import { expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { checkGradient } from "../testing/check-gradient.ts";

test.each([
  {
    equation: "ij,jk->ik",
    dims: [
      [2, 3],
      [3, 4],
    ],
  },
  {
    equation: "bhqd,bhkd->bhqk",
    dims: [
      [2, 2, 3, 5],
      [2, 2, 4, 5],
    ],
  },
  {
    equation: "bij,jk->bik",
    dims: [
      [2, 3, 4],
      [4, 5],
    ],
  },
  { equation: "i,j->ij", dims: [[3], [4]] },
  { equation: "i,i->", dims: [[5], [5]] },
  { equation: "ij->ji", dims: [[2, 3]] },
  { equation: "ij->i", dims: [[2, 3]] }, // j is summed out
  { equation: "ijk,i->", dims: [[2, 3, 2], [2]] },
  { equation: "ii->i", dims: [[3, 3]] }, // a diagonal
  { equation: "ii", dims: [[4, 4]] }, // a trace, output implied
  {
    equation: "iji,jk->ik",
    dims: [
      [3, 2, 3],
      [2, 2],
    ],
  },
  {
    equation: "ij,jk",
    dims: [
      [2, 3],
      [3, 2],
    ],
  },
  {
    equation: "ij,jk,kl->il",
    dims: [
      [2, 3],
      [3, 2],
      [2, 4],
    ],
  },
  {
    equation: "bij, bjk -> bik",
    dims: [
      [1, 2, 3],
      [1, 3, 2],
    ],
  },
])("$equation", ({ equation, dims }) =>
  checkGradient(
    (g, inputs) => g.op("Einsum", inputs, { equation }),
    dims.map((d) => ({ dims: d })),
  ),
);

test("one input frozen", () =>
  checkGradient(
    (g, inputs) => g.op("Einsum", inputs, { equation: "ij,jk->ik" }),
    [{ dims: [2, 3] }, { dims: [3, 4], frozen: true }],
  ));

// ONNX refuses an ellipsis that broadcasts, and one that the output lacks.
test.each([
  {
    equation: "...ij,...jk->...ik",
    dims: [
      [5, 2, 3, 4],
      [5, 2, 4, 2],
    ],
  },
  { equation: "...i,i", dims: [[2, 3], [3]] },
  { equation: "...ij->...ji", dims: [[2, 3, 4]] },
  { equation: "ii...->i...", dims: [[3, 3, 2]] },
])("with an ellipsis: $equation", async ({ equation, dims }) => {
  await checkGradient(
    (g, x) => g.op("Einsum", x, { equation })[0]!,
    dims.map((d) => ({ dims: d })),
    { symbolic: ["shared"] },
  );
});

test("an equation that does not fit is refused by name", () => {
  const g = createBuilder();
  const x = g.input("x", "float32", [2, 3]);
  expect(() => g.op("Einsum", [x], { equation: "ijk->i" }, { name: "mix" })).toThrow(/mix.*ijk/s);
  expect(() => g.op("Einsum", [x], { equation: "...ijk->i" })).toThrow(/fit the ranks/);
});
