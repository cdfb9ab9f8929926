import { adapterValues, trainableValues } from "../adapters/inject.ts";
import type { SeveralAdapted, SeveralMember } from "../adapters/inject-several.ts";
import { PeftError } from "../errors.ts";
import type { LossParts } from "../losses/loss-parts.ts";
import type { Value } from "../onnx/ir.ts";
import { adapterHooks, adapterLoss, fixedValues } from "./adapter-program.ts";
import type { Penalty } from "./penalty.ts";
import {
  buildEvaluationProgram,
  buildTrainingProgram,
  type EvaluationProgram,
  memberLoss,
  type ProgramMember,
  type TrainingProgram,
} from "./program.ts";

export interface SeveralProgramOptions {
  /** Terms of every member's loss beside the task's and its method's own. */
  readonly penalties?: readonly Penalty[];
}

/**
 * Completes a model with several adapters into one training program. Every member has a loss of its own rows; as its tensors touch no
 * other rows, the gradient of the losses' sum with respect to them is that of its own loss: one backward pass serves all.
 * @param lossOf the loss of a member's rows: `outputs` are those of its rows, `input` gives its rows of labels.
 * @throws PeftError NO_DATA for no member; as `differentiate`
 * @example
 * const training = buildSeveralProgram(several, ({ g, outputs, input }) =>
 *   crossEntropy(g, { logits: outputs.get("logits"), labels: input("labels", "int64") }));
 */
export function buildSeveralProgram(
  { g, members }: SeveralAdapted,
  lossOf: (member: SeveralMember) => LossParts,
  { penalties = [] }: SeveralProgramOptions = {},
): TrainingProgram {
  const list = [...members.values()];
  const losses = list.map((member) => g.scoped(member.name, () => adapterLoss(member, lossOf(member), penalties)));
  const [first, ...others] = losses;
  if (!first) throw new PeftError("NO_DATA", "Expected at least one adapter to train, received none.");
  const sum = (part: "sum" | "weight"): Value => others.reduce((total, loss) => g.add(total, loss[part]), first[part]);
  const total: LossParts = {
    sum: sum("sum"),
    weight: sum("weight"),
    ...(losses.some((loss) => loss.couplesSamples) ? { couplesSamples: true } : {}),
  };
  const parts = list.map((member, i): [string, ProgramMember] => {
    const names = memberLoss(member.name);
    const loss = losses[i] as LossParts;
    g.output(loss.sum, names.lossSum);
    g.output(loss.weight, names.lossWeight);
    const [parameters, state] = [trainableValues(member), fixedValues(member)].map((list) => list.map((v) => v.name));
    return [member.name, { parameters: parameters ?? [], state: state ?? [], ...adapterHooks(member), ...names }];
  });
  const program = buildTrainingProgram(g, total, list.flatMap(trainableValues), { state: list.flatMap(fixedValues) });
  return { ...program, members: Object.fromEntries(parts) };
}

/** A model with several adapters as an evaluation program; `outputs` are for all rows, whichever adapter is theirs. */
export const buildSeveralEvaluation = (
  { g, members }: SeveralAdapted,
  outputs: Readonly<Record<string, Value>>,
): EvaluationProgram => buildEvaluationProgram(g, outputs, [...members.values()].flatMap(adapterValues));
