import { isKnownOperator, type OperatorKey, operatorKey } from "../onnx/infer/table.ts";
import type { Node } from "../onnx/ir.ts";
import { activations } from "./activations.ts";
import { arithmetic } from "./arithmetic.ts";
import { attentions } from "./attention.ts";
import { blocks } from "./blocks.ts";
import { channelNormalization } from "./channel-normalization.ts";
import { constants } from "./constants.ts";
import { controlFlow } from "./control-flow.ts";
import { convolution } from "./convolution.ts";
import { cumSum } from "./cum-sum.ts";
import { einsum } from "./einsum.ts";
import { exponentials } from "./exponentials.ts";
import { gridSample } from "./grid-sample.ts";
import { indexing } from "./indexing.ts";
import { logic } from "./logic.ts";
import { losses } from "./losses.ts";
import { matrix } from "./matrix.ts";
import { minMax } from "./min-max.ts";
import { normalization } from "./normalization.ts";
import { passing } from "./passing.ts";
import { pooling } from "./pooling.ts";
import { pow } from "./pow.ts";
import { quantized } from "./quantized.ts";
import { rectifiers } from "./rectifiers.ts";
import { recurrents } from "./recurrent.ts";
import { reductions } from "./reductions.ts";
import { resizing } from "./resizing.ts";
import type { GradientRule } from "./rule.ts";
import { scatters } from "./scatters.ts";
import { shape } from "./shape.ts";
import { softmax } from "./softmax.ts";
import { quantization } from "./straight-through.ts";
import { trigonometry } from "./trigonometry.ts";

/** The gradient of every operator the engine knows: a rule, or the statement that there is none. */
export const gradientTable: Readonly<Record<OperatorKey, GradientRule>> = {
  ...arithmetic,
  ...pow,
  ...exponentials,
  ...trigonometry,
  ...rectifiers,
  ...activations,
  ...minMax,
  ...logic,
  ...passing,
  ...reductions,
  ...cumSum,
  ...softmax,
  ...shape,
  ...normalization,
  ...matrix,
  ...indexing,
  ...scatters,
  ...losses,
  ...einsum,
  ...constants,
  ...channelNormalization,
  ...controlFlow,
  ...quantization,
  ...attentions,
  ...recurrents,
  ...quantized,
  ...convolution,
  ...pooling,
  ...resizing,
  ...gridSample,
  ...blocks,
};

/** The rule of a node's operator; undefined when there is none yet. */
export function gradientRuleOf(node: Node): GradientRule | undefined {
  const key = operatorKey(node.op, node.domain);
  return isKnownOperator(key) ? gradientTable[key] : undefined;
}
