import type { SiteShape } from "../../adapters/site.ts";
import { createRandom } from "../../random/random.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import type { AdapterTensor, ByRole } from "../method.ts";
import type { HookSite } from "../step-hooks.ts";
import { keepTriangle } from "../tri-adapt-blocks.ts";
import { blocksOf, type TriAdaptConfig, triAdaptConfig } from "../tri-adapt-config.ts";
import { createGrowth } from "../tri-adapt-growth.ts";
import { triAdaptLora } from "../tri-adapt-lora.ts";

/** A linear module. */
export const site = (name: string, inFeatures = 5, outFeatures = 4): SiteShape => ({
  ...{ name, kind: "linear", inFeatures, outFeatures, weightShape: [outFeatures, inFeatures], hasBias: false },
});
const roles = ["A", "B", "L", "U", "scale"];

/** Start values of some modules, as an engine holds them, and hooks over them. */
export function growing(fields: Partial<TriAdaptConfig>, names = ["a"], totalSteps = 10) {
  const config = triAdaptConfig.parse(fields);
  const random = createRandom(7);
  const values = new Map<string, Float32Array>();
  const sites = names.map((name): HookSite<TriAdaptConfig> => {
    const specs = triAdaptLora.parameters(site(name), config, []);
    for (const role of roles) {
      const { shape, init } = specs[role]!;
      values.set(`${name}.${role}`, init({ shape, random, base: () => new Float32Array() }));
    }
    return { site: site(name), config, names: Object.fromEntries(roles.map((role) => [role, `${name}.${role}`])) };
  });
  const hooks = createGrowth({ config, sites, values, totalSteps, seed: 3 });
  const rankOf = (name: string): number => values.get(`${name}.A`)!.length / 5;
  const tensors = (name: string): ByRole<AdapterTensor> => {
    const r = rankOf(name);
    const dims: Record<string, readonly number[]> = { A: [r, 5], B: [4, r], L: [r, r], U: [r, r], scale: [1] };
    return Object.fromEntries(roles.map((role) => [role, { dims: dims[role]!, data: values.get(`${name}.${role}`)! }]));
  };
  const change = (name: string): Float32Array => {
    const delta = triAdaptLora.delta!(tensors(name), config, site(name), {} as never);
    return (delta.weight as { add: Float32Array }).add;
  };
  const grow = (step: number): string[] =>
    (hooks.grow?.(step) ?? []).map(({ name, data }) => {
      values.set(name, data);
      return name;
    });
  return { config, values, hooks, sites, rankOf, tensors, change, grow };
}

/** Every tensor moved at random, inside the pattern of the blocks. */
export function move({ values, config, rankOf }: ReturnType<typeof growing>, name: string): void {
  const random = testRandom(11);
  for (const role of ["A", "B", "L", "U"]) {
    const data = values.get(`${name}.${role}`)!;
    data.forEach((v, i) => {
      data[i] = v + random() - 0.5;
    });
    if (role === "L" || role === "U") keepTriangle(data, blocksOf(rankOf(name), config), role);
  }
}

/** The largest difference between two lists of numbers. */
export const gap = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);
