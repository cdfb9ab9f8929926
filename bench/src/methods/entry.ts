import { type Method, methodOf } from "@onnx-peft/core";

/** One line of the comparison: a method at one setting. */
export interface Entry {
  readonly name: string;
  /** `peft_type` of a registered method. */
  readonly type: string;
  /** Options of the method; modules are query and value unless it names others. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Its usual setting at a model of BERT-base's width, where that is another one: what its time is measured with. */
  readonly usual?: Readonly<Record<string, unknown>>;
  /** LoRA+: learning rate of B over that of A. */
  readonly loraPlusRatio?: number;
  /** Why its number of trained values is not that of LoRA. */
  readonly budget?: string;
}

/** What the entries adapt where their method leaves the choice. */
export const QUERY_VALUE = ["query", "value"] as const;

/** The config with the modules it is for. */
export function configOf({ type, config }: Entry): Readonly<Record<string, unknown>> {
  const method: Method = methodOf(type);
  const targets = method.defaultTargets === null && !method.parts && !method.wholeModel && !("targetModules" in config);
  return targets ? { ...config, targetModules: [...QUERY_VALUE] } : config;
}

/** The entry with its usual setting. */
export const asUsual = (entry: Entry): Entry => ({ ...entry, config: entry.usual ?? entry.config });

const settingOfPart = (part: { method: string; config: Readonly<Record<string, unknown>>; gated: boolean }): string =>
  `${part.method} (${[...Object.entries(part.config).map(([name, value]) => `${name} ${String(value).replaceAll(",", " ")}`), ...(part.gated ? ["gated"] : [])].join(", ")})`;

/** The setting as people read it: "r 8, alpha 16". */
export function settingOf({ config, loraPlusRatio }: Pick<Entry, "config" | "loraPlusRatio">): string {
  const options = Object.entries(config).map(([name, value]) => {
    if (name === "parts" && Array.isArray(value)) return value.map(settingOfPart).join("; ");
    const text =
      Array.isArray(value) && value.length > 4 ? `${value.length} values` : String(value).replaceAll(",", " ");
    return value === true ? name : `${name} ${text}`;
  });
  const all = [...options, ...(loraPlusRatio === undefined ? [] : [`ratio ${loraPlusRatio}`])];
  return all.length === 0 ? "defaults" : all.join(", ");
}
