import { floorDivide, mulDims } from "../onnx/dims.ts";
import { intAttribute, stringAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { dOutput, inputAt } from "./helpers.ts";
import { rule } from "./rule.ts";

/** Blocks of pixels to channels and back: x [batch, channels, height, width]. */
export const blocks = {
  /** Y spreads b * b channels over a block of pixels: dX = SpaceToDepth(dY), for mode CRD with the block innermost. */
  DepthToSpace: rule([1, 24], (c) => {
    const { g, node } = c;
    const [x, dY] = [inputAt(c, 0), dOutput(c)];
    const blocksize = intAttribute(node, "blocksize", 1);
    if (stringAttribute(node, "mode", "DCR") === "DCR") {
      return [g.op("SpaceToDepth", [dY], { blocksize })[0] as Value];
    }
    const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
    const fewer = floorDivide(channels, mulDims(blocksize, blocksize));
    const split = g.reshape(dY, [batch, fewer, height, blocksize, width, blocksize], dY);
    return [g.reshapeLike(g.transpose(split, [0, 1, 3, 5, 2, 4]), x)];
  }),
  /** Y gathers blocks of pixels into channels: dX = DepthToSpace(dY). */
  SpaceToDepth: rule([1, 24], (c) => {
    const blocksize = intAttribute(c.node, "blocksize", 1);
    return [c.g.op("DepthToSpace", [dOutput(c)], { blocksize })[0] as Value];
  }),
};
