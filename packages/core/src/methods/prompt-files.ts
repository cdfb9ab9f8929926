import { PeftError } from "../errors.ts";
import type { AdapterTensor, ByRole, FileForm, Method } from "./method.ts";

/** Name of the virtual tokens in graphs and files. */
export const promptKey = "prompt_embeddings";

/** Names of a prompt method's shared tensors: what makes the prompt is named after peft's modules and is never in a file. */
export const promptKeys = (role: string): string => (role === "prompt" ? promptKey : `prompt_encoder.${role}`);

interface Exportable {
  readonly exported: boolean;
}

/**
 * Forms of a method whose prompt is made by an encoder in training. Files of peft hold the prompt itself, in place of the encoder: a
 * config with `exported` says so. `make` gives the prompt from the encoder's tensors by role.
 */
export function promptForms<C extends Exportable>(
  make: (tensors: ByRole<AdapterTensor>, config: C) => AdapterTensor,
): Required<Pick<NonNullable<Method<C>["peft"]>, "write" | "read">> & {
  readonly swap: NonNullable<Method<C>["swap"]>;
} {
  const prompt = (tensors: ByRole<AdapterTensor>, config: C): AdapterTensor => {
    const found = config.exported ? tensors["prompt"] : make(tensors, config);
    if (!found) throw new PeftError("PARAMETER", `The adapter has no tensor "${promptKey}".`);
    return found;
  };
  return {
    write(adapter: FileForm<C>) {
      const { exported: _, ...config } = adapter.config;
      const prefix = promptKeys("");
      const tensors = new Map<string, AdapterTensor>();
      const roles: Record<string, AdapterTensor> = {};
      for (const [name, tensor] of adapter.tensors) {
        if (name === promptKey) roles["prompt"] = tensor;
        else if (name.startsWith(prefix)) roles[name.slice(prefix.length)] = tensor;
        else tensors.set(name, tensor);
      }
      tensors.set(promptKey, prompt(roles, adapter.config));
      return { config: config as C, tensors };
    },
    read: ({ config, tensors }) => ({ config: { ...config, exported: true }, tensors }),
    swap: {
      otherTensors: true,
      config: (config) => ({ ...config, exported: true }),
      tensors: (tensors, config) => ({ ...tensors, prompt: prompt(tensors, config) }),
    },
  };
}
