import { attentions } from "./attention.ts";
import type { Infer } from "./context.ts";
import { controlFlow } from "./control-flow.ts";
import { elementwise } from "./elementwise.ts";
import { matrices } from "./matrix.ts";
import { normalizations } from "./normalization.ts";
import { quantized } from "./quantized.ts";
import { recurrents } from "./recurrent.ts";
import { reductions } from "./reduce.ts";
import { shapes } from "./shape.ts";
import { spatial } from "./spatial.ts";

const table = {
  ...elementwise,
  ...reductions,
  ...matrices,
  ...shapes,
  ...normalizations,
  ...controlFlow,
  ...recurrents,
  ...attentions,
  ...quantized,
  ...spatial,
};

/** An operator this engine knows; its domain stands before "::" if it has one. The gradient table is total over these. */
export type OperatorKey = keyof typeof table;

/** Shape inference of every operator this engine knows. */
export const inferenceTable: Readonly<Record<OperatorKey, Infer>> = table;

export const operatorKey = (op: string, domain: string): string => (domain === "" ? op : `${domain}::${op}`);

export const isKnownOperator = (key: string): key is OperatorKey => Object.hasOwn(table, key);

/** Shape inference of an operator, or undefined when the engine does not know it. */
export const inferenceOf = (op: string, domain: string): Infer | undefined => {
  const key = operatorKey(op, domain);
  return isKnownOperator(key) ? inferenceTable[key] : undefined;
};
