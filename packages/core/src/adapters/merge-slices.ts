import type { Graph } from "../onnx/ir.ts";
import { frozenSite } from "./operands.ts";
import { quantizedSlice } from "./replace-slice.ts";
import type { Operand, Site } from "./site.ts";

/** The operands of a site that hold its weight, or its bias. */
export const operandsOf = (site: Site, which: "weight" | "bias"): Operand[] =>
  site.uses.flatMap((use) => (which === "weight" ? [use.weight] : use.bias ? [use.bias] : []));

const withoutSlice = ({ slice: _, ...operand }: Operand): Operand => operand;

/** The fused projection that a module is a part of, as if it were one module, under a name that is no module's path. */
function wholeOf(site: Site): Site {
  const total = site.uses[0]?.weight.slice?.total ?? site.outFeatures;
  return {
    ...site,
    name: `${site.weight}::fused`,
    outFeatures: total,
    weightShape: [total, site.inFeatures],
    uses: site.uses.map((use) => ({
      ...use,
      weight: withoutSlice(use.weight),
      bias: use.bias && withoutSlice(use.bias),
    })),
  };
}

/** A fused operand with the new numbers of all its changed parts. */
export interface MergedWhole {
  readonly whole: Site;
  readonly which: "weight" | "bias";
  readonly values: () => Float32Array;
}

/**
 * Collects the changes of modules that share one operand, so that it is written once: a part that is written alone would be
 * lost when the operand has to be copied for the next.
 */
export function collectSlices(): {
  readonly add: (graph: Graph, site: Site, which: "weight" | "bias", values: Float32Array) => void;
  readonly all: () => MergedWhole[];
} {
  const wholes = new Map<string, MergedWhole & { data: Float32Array }>();
  return {
    add(graph, site, which, values) {
      const [operand] = operandsOf(site, which);
      if (!operand?.slice) return;
      if (operand.product) throw quantizedSlice(site.name, "nothing can be merged into it");
      const key = `${which}:${operand.initializer}`;
      const known = wholes.get(key);
      const whole = known?.whole ?? wholeOf(site);
      const data = known?.data ?? frozenSite(graph, whole)[which]();
      data.set(values, operand.slice.start * (which === "weight" ? site.inFeatures : 1));
      if (!known) wholes.set(key, { whole, which, data, values: () => data });
    },
    all: () => [...wholes.values()],
  };
}
