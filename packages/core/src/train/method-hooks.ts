import type { HookSite, StepHooks } from "../methods/step-hooks.ts";

/** The hooks of an adapter as plain data: the process that trains makes them again from the method's name. */
export interface HookPlan {
  /** `peft_type` of a registered method. */
  readonly type: string;
  readonly config: object;
  readonly sites: readonly HookSite<object>[];
}

/** What the hooks of one training share with the engine. */
export interface HookContext {
  readonly values: ReadonlyMap<string, Float32Array>;
  readonly totalSteps: number;
  readonly seed: number | string;
}

/** Nothing between steps. */
const none: StepHooks = {};

/** Methods are loaded where one has work to do: most need none, and loading all takes longer than a small step. @throws PeftError UNKNOWN_METHOD */
export async function createHooks(plan: HookPlan | undefined, context: HookContext): Promise<StepHooks> {
  if (!plan) return none;
  const { methodOf } = await import("../methods/registry.ts");
  return methodOf(plan.type).hooks?.({ config: plan.config, sites: plan.sites, ...context }) ?? none;
}
