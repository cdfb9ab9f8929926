import { PeftError } from "../errors.ts";
import { readSafetensors } from "../formats/safetensors/read.ts";
import { writeSafetensors } from "../formats/safetensors/write.ts";
import { transpose } from "../linalg/matrix.ts";
import { toMatrix } from "../methods/dense.ts";
import { type KronAConfig, kronA } from "../methods/kron-a.ts";
import type { AdapterTensor } from "../methods/method.ts";
import type { TensorData } from "../onnx/ir.ts";
import { tensorFrom, toFloat32Array } from "../onnx/tensor.ts";
import type { Adapter } from "./adapter.ts";
import { type AdapterConfig, parseAdapterConfig } from "./select.ts";

/** The model of a pipeline that an adapter belongs to. */
export type DiffuseKronAPart = "unet" | "text_encoder";

/** How the files of diffusers 0.21 name a module's pair: attention processors in the UNet, layers beside a linear one in the text encoder. */
const naming: Readonly<
  Record<DiffuseKronAPart, { readonly pattern: RegExp; readonly site: (path: string, name: string) => string }>
> = {
  unet: {
    pattern: /^unet\.(.+)\.processor\.to_(q|k|v|out)_lora\.(down|up)\.weight$/,
    site: (path, name) => `${path}.to_${name === "out" ? "out.0" : name}`,
  },
  text_encoder: {
    pattern: /^text_encoder\.(.+)\.(\w+)\.lora_linear_layer\.(down|up)\.weight$/,
    site: (path, name) => `${path}.${name}`,
  },
};

const fileKeys: Readonly<Record<DiffuseKronAPart, (site: string, half: "down" | "up") => string | null>> = {
  unet(site, half) {
    const found = /^(.+)\.to_(?:(q|k|v)|(out)\.0)$/.exec(site);
    return found && `unet.${found[1]}.processor.to_${found[2] ?? found[3]}_lora.${half}.weight`;
  },
  text_encoder: (site, half) => `text_encoder.${site}.lora_linear_layer.${half}.weight`,
};

/** [rows, columns] to [columns, rows]. */
function transposed(tensor: AdapterTensor): AdapterTensor {
  const { rows, columns, data } = transpose(toMatrix(tensor));
  return { dims: [rows, columns], data: Float32Array.from(data) };
}

function matrixOf(name: string, tensor: TensorData): AdapterTensor {
  if (tensor.dims.length !== 2)
    throw new PeftError("ADAPTER_MISMATCH", `Expected "${name}" to be a matrix, received [${tensor.dims.join(", ")}].`);
  return { dims: tensor.dims, data: toFloat32Array(tensor) };
}

/**
 * A DiffuseKronA adapter out of the `pytorch_lora_weights.safetensors` of its authors' code. The file looks like LoRA: `down` holds Aᵀ [a2, a1], `up` B [b1, b2];
 * rows of the change are in the code's order ("official").
 * @param options `part`: the model whose adapter is read, default "unet". `type`: says that the file is DiffuseKronA's where its shapes allow LoRA too.
 * @throws PeftError SAFETENSORS_INVALID and others of {@link readSafetensors}; ADAPTER_MISMATCH where no module is found, one lacks a half, factors differ
 *   in size between modules; ADAPTER_AMBIGUOUS where every pair could be LoRA's and `type` is not given
 * @example
 * const adapter = await readDiffuseKronA("sks/pytorch_lora_weights.safetensors");
 */
export async function readDiffuseKronA(
  path: string,
  options: { readonly part?: DiffuseKronAPart; readonly type?: "KRONA" } = {},
): Promise<Adapter> {
  const { part = "unet", type } = options;
  const { pattern, site: siteOf } = naming[part];
  const { tensors } = await readSafetensors(path);
  const pairs = new Map<string, Partial<Record<"down" | "up", AdapterTensor>>>();
  for (const [name, tensor] of tensors) {
    const found = pattern.exec(name);
    if (!found) continue;
    const site = siteOf(found[1] as string, found[2] as string);
    pairs.set(site, { ...pairs.get(site), [found[3] as "down" | "up"]: matrixOf(name, tensor) });
  }
  if (pairs.size === 0)
    throw new PeftError(
      "ADAPTER_MISMATCH",
      `Expected tensors of a ${part} in ${path}, found none among ${tensors.size}.`,
    );
  const values = new Map<string, AdapterTensor>();
  const sizes = new Map<string, { readonly a1: number; readonly a2: number }>();
  let couldBeLora = true;
  for (const [site, { down, up }] of pairs) {
    if (!down || !up)
      throw new PeftError(
        "ADAPTER_MISMATCH",
        `Expected both halves of "${site}" in ${path}, found ${down ? "down" : "up"} alone.`,
      );
    couldBeLora &&= up.dims[1] === down.dims[0];
    const [a2 = 0, a1 = 0] = down.dims;
    sizes.set(`${a1} x ${a2}`, { a1, a2 });
    values.set(`${site}.${kronA.keys["A"]}`, transposed(down));
    values.set(`${site}.${kronA.keys["B"]}`, up);
  }
  if (sizes.size > 1)
    throw new PeftError(
      "ADAPTER_MISMATCH",
      `Expected the first factor of one size in ${path}, found ${[...sizes.keys()].join(", ")}.`,
      {
        hint: "It may be a LoRA file, whose factors are as wide as their modules.",
      },
    );
  if (couldBeLora && type === undefined)
    throw new PeftError(
      "ADAPTER_AMBIGUOUS",
      `Every pair of ${path} could be factors of LoRA as well as of a Kronecker product.`,
      {
        hint: 'Say that it is the latter: readDiffuseKronA(path, { type: "KRONA" }).',
      },
    );
  const [size] = sizes.values();
  const targetModules = [...pairs.keys()];
  return {
    type: kronA.type,
    config: parseAdapterConfig(kronA, { ...size, layout: "official", targetModules }),
    tensors: values,
  };
}

/**
 * Writes a DiffuseKronA adapter as its authors' code does.
 * @throws PeftError NOT_KRONA for another method, the paper's layout, a factor beside 1, or modules that were saved whole; ADAPTER_MISMATCH for a module
 *   that is no attention projection; WRITE_FAILED
 * @example
 * await writeDiffuseKronA("sks/pytorch_lora_weights.safetensors", adapter);
 */
export async function writeDiffuseKronA(
  path: string,
  adapter: Adapter,
  options: { readonly part?: DiffuseKronAPart } = {},
): Promise<void> {
  const { part = "unet" } = options;
  const { layout, scale, modulesToSave = [] } = adapter.config as AdapterConfig<KronAConfig>;
  if (adapter.type !== kronA.type || layout !== "official" || scale !== 1 || modulesToSave.length > 0) {
    const received =
      adapter.type === kronA.type
        ? `layout "${layout}", scale ${scale}, ${modulesToSave.length} modules saved whole`
        : adapter.type;
    throw new PeftError(
      "NOT_KRONA",
      `Expected a KRONA adapter of the official layout with scale 1 alone, received ${received}.`,
      {
        hint: "The paper's layout is LoKr with full factors.",
      },
    );
  }
  const file = new Map<string, TensorData>();
  for (const [name, tensor] of adapter.tensors) {
    const isFirst = name.endsWith(`.${kronA.keys["A"]}`);
    const site = name.slice(0, -1 - (kronA.keys["A"] as string).length);
    const key = fileKeys[part](site, isFirst ? "down" : "up");
    if (key === null)
      throw new PeftError("ADAPTER_MISMATCH", `Expected to_q, to_k, to_v and to_out.0 of a UNet, received "${site}".`);
    const { dims, data } = isFirst ? transposed(tensor) : tensor;
    file.set(key, tensorFrom("float32", dims, data));
  }
  await writeSafetensors(path, file, { format: "pt" });
}
