import type { AttributeInput } from "../graph/attributes.ts";
import type { Builder } from "../graph/builder.ts";
import type { Value } from "../onnx/ir.ts";
import { checkGradient } from "./check-gradient.ts";
import { awayFrom } from "./gradient-at.ts";

/** An element-wise operator of one input under test. */
export interface UnaryCase {
  readonly op: string;
  readonly domain?: string;
  readonly attributes?: Record<string, AttributeInput>;
  readonly opset?: number;
  /** Where inputs are drawn from; default -2 to 2. */
  readonly range?: readonly [number, number];
  /** Points without a derivative, which are avoided. */
  readonly kinks?: readonly number[];
  /** Default as in checkGradient. */
  readonly tolerance?: number;
  /** Default: scalar, vector, matrix of odd sizes, batched. */
  readonly shapes?: readonly (readonly number[])[];
}

const allShapes = [[], [6], [7, 5], [2, 3, 4]];

const size = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

export const applyUnary =
  ({ op, attributes = {}, domain = "" }: UnaryCase) =>
  (g: Builder, [x]: Value[]): Value =>
    g.op(op, [x as Value], attributes, { domain })[0] as Value;

/** Gradient checks of a unary operator on all shapes, static and symbolic. */
export async function checkUnary(unary: UnaryCase): Promise<void> {
  for (const dims of unary.shapes ?? allShapes) {
    const data = awayFrom(unary.kinks ?? [], size(dims), unary.range ?? [-2, 2]);
    await checkGradient(applyUnary(unary), [{ dims, data }], {
      ...(unary.opset === undefined ? {} : { opset: unary.opset }),
      ...(unary.tolerance === undefined ? {} : { tolerance: unary.tolerance }),
    });
  }
}

/** Name of a case in the test report. */
export const caseName = ({ op, attributes, opset }: UnaryCase): string =>
  [op, ...Object.keys(attributes ?? {}), ...(opset === undefined ? [] : [`opset ${opset}`])].join(" ");
