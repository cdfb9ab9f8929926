import type { Builder } from "../graph/builder.ts";
import type { ByRole, Method } from "../methods/method.ts";
import type { Value } from "../onnx/ir.ts";
import type { SitePlan } from "./parameters.ts";

/** Values of a plan's roles in a graph. */
export type ValuesOf = (g: Builder, plan: SitePlan) => ByRole<Value>;

const valuesBy = (g: Builder, list: SitePlan["shared"]): ByRole<Value> =>
  Object.fromEntries(list.map((p) => [p.role, g.value(p.name)]));

/** A plan's tensors by role. */
export const ownValues: ValuesOf = (g, { shared, parameters }) => valuesBy(g, [...shared, ...parameters]);

/** Tensors by role, and what the method derives from the shared ones, and from hidden states, once per graph. */
export function roleValues(plans: readonly SitePlan[], hidden: () => Value | undefined = () => undefined): ValuesOf {
  const derived = new Map<Method, ByRole<Value>>();
  return (g, plan) => {
    const { method, shared, config } = plan;
    if (method.derive && !derived.has(method)) {
      const sites = plans.flatMap((other) => (other.method === method ? [other.site] : []));
      const build = (): ByRole<Value> => method.derive?.(g, valuesBy(g, shared), config, sites, hidden()) ?? {};
      derived.set(method, g.scoped(method.type.toLowerCase(), build));
    }
    return { ...ownValues(g, plan), ...derived.get(method) };
  };
}
