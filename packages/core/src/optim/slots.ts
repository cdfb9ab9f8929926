import { PeftError } from "../errors.ts";
import { type AgeRange, agesOf, copyCorner, type SlotGrowth } from "./grown-entries.ts";
import type { ParameterGroup } from "./optimizer-config.ts";

/** One trained tensor with its settings and its state, views into one contiguous array per kind of state. */
export interface Slot {
  name: string;
  values: Float32Array;
  learningRate: number;
  weightDecay: number;
  /** One array per name in `stateNames`, as long as `values`. */
  state: Float32Array[];
  /** Steps at which the whole tensor was held: they do not count in its bias correction. */
  heldSteps: number;
  /**
   * Of a tensor that has grown, for every entry the updates that were done before it appeared; negative where it does not follow the
   * schedule. null: all entries are there from the start.
   */
  born: Float32Array | null;
  /** Entries of one age, in order. */
  ranges: readonly AgeRange[];
}

export interface Slots {
  list: Slot[];
  /** Updates done so far. */
  readonly step: { count: number };
  /** The gradient of a slot, checked for presence and length. */
  gradientOf(gradients: ReadonlyMap<string, Float32Array>, slot: Slot): Float32Array;
  /** A tensor takes other values of another size; the state of its old entries goes along. */
  grow(growth: SlotGrowth): void;
  state(): Map<string, Float32Array>;
  restore(state: ReadonlyMap<string, Float32Array>): void;
}

const heldKey = ({ name }: Pick<Slot, "name">): string => `${name}.held_steps`;

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
    const state = storage.map((all) => all.subarray(start, offset));
    const ranges = agesOf(null, values.length);
    list.push({ name, values, learningRate, weightDecay, state, heldSteps: 0, born: null, ranges });
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
    grow({ name, values, dims, before, followsSchedule }) {
      const slot = list.find((candidate) => candidate.name === name);
      if (!slot) throw new PeftError("GRADIENT_MISMATCH", `"${name}" grows and is not a trained parameter.`);
      const now = step.count - slot.heldSteps;
      const born = new Float32Array(values.length).fill(followsSchedule ? now : -now);
      copyCorner(slot.born ?? new Float32Array(slot.values.length), before, born, dims);
      slot.state = slot.state.map((old) => copyCorner(old, before, new Float32Array(values.length), dims));
      Object.assign(slot, { values, born, ranges: agesOf(born, values.length) });
    },
    state() {
      const saved = new Map([["step", new Float32Array([step.count])]]);
      for (const slot of list) {
        if (slot.born) saved.set(`${slot.name}.born`, slot.born.slice());
        stateNames.forEach((stateName, i) => {
          saved.set(`${slot.name}.${stateName}`, (slot.state[i] as Float32Array).slice());
        });
        if (slot.heldSteps > 0) saved.set(heldKey(slot), new Float32Array([slot.heldSteps]));
      }
      return saved;
    },
    restore(saved) {
      const targets = new Map<string, Float32Array>();
      for (const slot of list) {
        if (slot.born) targets.set(`${slot.name}.born`, slot.born);
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
      const heldKeys = new Set(list.map(heldKey));
      for (const key of saved.keys())
        if (key !== "step" && !targets.has(key) && !heldKeys.has(key)) problems.push(`"${key}" is not known`);
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
      for (const slot of list) slot.heldSteps = saved.get(heldKey(slot))?.[0] ?? 0;
      for (const slot of list) slot.ranges = agesOf(slot.born, slot.values.length);
      step.count = count as number;
    },
  };
}
