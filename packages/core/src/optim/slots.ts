import { PeftError } from "../errors.ts";
import type { ParameterGroup } from "./optimizer-config.ts";

/** One trained tensor with its settings and its state, views into one contiguous array per kind of state. */
export interface Slot {
  name: string;
  values: Float32Array;
  learningRate: number;
  weightDecay: number;
  /** One array per name in `stateNames`, as long as `values`. */
  state: Float32Array[];
}

export interface Slots {
  list: Slot[];
  /** Updates done so far. */
  readonly step: { count: number };
  /** The gradient of a slot, checked for presence and length. */
  gradientOf(gradients: ReadonlyMap<string, Float32Array>, slot: Slot): Float32Array;
  state(): Map<string, Float32Array>;
  restore(state: ReadonlyMap<string, Float32Array>): void;
}

function settingsByName(
  parameters: ReadonlyMap<string, Float32Array>,
  groups: readonly ParameterGroup[],
): Map<string, ParameterGroup> {
  const settings = new Map<string, ParameterGroup>();
  const problems: string[] = [];
  for (const group of groups) {
    for (const name of group.names) {
      if (!parameters.has(name)) problems.push(`"${name}" is not a trained parameter`);
      else if (settings.has(name)) problems.push(`"${name}" is in more than one group`);
      else settings.set(name, group);
    }
  }
  if (problems.length > 0) {
    throw new PeftError(
      "PARAMETER_GROUP_INVALID",
      `expected disjoint groups of trained parameters, received: ${problems.join("; ")}.`,
      {
        details: { problems },
      },
    );
  }
  return settings;
}

/** What all optimisers share: group settings, contiguous state, saving and restoring it. */
export function createSlots(
  parameters: ReadonlyMap<string, Float32Array>,
  groups: readonly ParameterGroup[],
  defaults: { learningRate: number; weightDecay: number },
  stateNames: readonly string[],
): Slots {
  const settings = settingsByName(parameters, groups);
  let total = 0;
  for (const values of parameters.values()) total += values.length;
  const storage = stateNames.map(() => new Float32Array(total));
  const list: Slot[] = [];
  let offset = 0;
  for (const [name, values] of parameters) {
    const { learningRate, weightDecay } = settings.get(name) ?? defaults;
    const start = offset;
    offset += values.length;
    list.push({ name, values, learningRate, weightDecay, state: storage.map((all) => all.subarray(start, offset)) });
  }
  const step = { count: 0 };

  return {
    list,
    step,
    gradientOf(gradients, { name, values }) {
      const gradient = gradients.get(name);
      if (gradient?.length === values.length) return gradient;
      const received = gradient === undefined ? "none" : `${gradient.length}`;
      throw new PeftError(
        "GRADIENT_MISMATCH",
        `expected ${values.length} gradient values, received ${received} for "${name}".`,
      );
    },
    state() {
      const saved = new Map([["step", new Float32Array([step.count])]]);
      for (const slot of list) {
        stateNames.forEach((stateName, i) => {
          saved.set(`${slot.name}.${stateName}`, (slot.state[i] as Float32Array).slice());
        });
      }
      return saved;
    },
    restore(saved) {
      const targets = new Map<string, Float32Array>();
      for (const slot of list) {
        stateNames.forEach((stateName, i) => {
          targets.set(`${slot.name}.${stateName}`, slot.state[i] as Float32Array);
        });
      }
      const problems: string[] = [];
      const count = saved.get("step")?.[0];
      if (count === undefined || !Number.isInteger(count) || count < 0)
        problems.push(`"step" is ${count ?? "missing"}`);
      for (const [key, target] of targets) {
        const length = saved.get(key)?.length;
        if (length !== target.length)
          problems.push(`"${key}" has ${length ?? "no"} values instead of ${target.length}`);
      }
      for (const key of saved.keys()) if (key !== "step" && !targets.has(key)) problems.push(`"${key}" is not known`);
      if (problems.length > 0) {
        throw new PeftError(
          "OPTIMIZER_STATE_MISMATCH",
          `expected the state of this optimiser, received: ${problems.join("; ")}.`,
          {
            hint: "Resume with the same optimiser, adapter and target modules.",
            details: { problems },
          },
        );
      }
      for (const [key, target] of targets) target.set(saved.get(key) as Float32Array);
      step.count = count as number;
    },
  };
}
