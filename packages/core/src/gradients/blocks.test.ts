import { describe, test } from "vitest";
import { checkGradient } from "../testing/check-gradient.ts";

describe.each([11, 21])("opset %i", (opset) => {
  test.each(["DCR", "CRD"])("DepthToSpace, %s", (mode) =>
    checkGradient(
      (g, [x, w]) => g.mul(g.op("DepthToSpace", [x!], { blocksize: 2, mode })[0]!, w!),
      [{ dims: [2, 12, 2, 3] }, { dims: [2, 3, 4, 6], frozen: true }],
      { opset, symbolic: [] },
    ),
  );
  test("DepthToSpace of symbolic sizes", () =>
    checkGradient((g, [x]) => g.op("DepthToSpace", [x!], { blocksize: 3, mode: "CRD" })[0]!, [{ dims: [1, 9, 3, 2] }], {
      opset,
    }));
  test("SpaceToDepth", () =>
    checkGradient((g, [x]) => g.op("SpaceToDepth", [x!], { blocksize: 2 })[0]!, [{ dims: [2, 3, 4, 6] }], { opset }));
});
