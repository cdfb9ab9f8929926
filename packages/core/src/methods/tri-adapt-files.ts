import { PeftError } from "../errors.ts";
import type { AdapterTensor, FileForm } from "./method.ts";
import { cut, paste } from "./tri-adapt-blocks.ts";
import { blocksOf, type TriAdaptConfig } from "./tri-adapt-config.ts";

type Range = readonly [from: number, to: number];

/** Rows and columns of block `from` to `end` of a matrix [rows, columns]. */
function placeOf(
  key: string,
  from: number,
  end: number,
  [rows = 0, columns = 0]: readonly number[],
): readonly [Range, Range] {
  switch (key) {
    case "lora_A":
      return [
        [from, end],
        [0, columns],
      ];
    case "lora_B":
      return [
        [0, rows],
        [from, end],
      ];
    case "lora_C_row":
      return [
        [from, end],
        [0, end],
      ];
    default:
      return [
        [0, end],
        [from, end],
      ];
  }
}

const tensorName = /^(.*)\.(lora_A|lora_B|lora_C_row|lora_C_col)$/;
const pieceName = /^(.*)\.(lora_A|lora_B|lora_C_row|lora_C_col)\.(\d{1,5})$/;

/** Every tensor block by block, as in the authors' files: "<module>.lora_A.0", "<module>.lora_C_row.1". */
export function inBlocks({ config, tensors }: FileForm<TriAdaptConfig>): FileForm<TriAdaptConfig> {
  const pieces = new Map<string, AdapterTensor>();
  for (const [name, tensor] of tensors) {
    const key = tensorName.exec(name)?.[2];
    if (key === undefined) {
      pieces.set(name, tensor);
      continue;
    }
    const rank = (key === "lora_B" ? tensor.dims[1] : tensor.dims[0]) ?? 0;
    const ends = blocksOf(rank, config);
    ends.forEach((end, i) => {
      const [rows, columns] = placeOf(key, ends[i - 1] ?? 0, end, tensor.dims);
      pieces.set(`${name}.${i}`, cut(tensor, rows, columns));
    });
  }
  return { config, tensors: pieces };
}

/**
 * The other way round. What files leave out of L and U is zero.
 * @throws PeftError ADAPTER_MISMATCH when blocks are missing or of other sizes
 */
export function fromBlocks({ config, tensors }: FileForm<TriAdaptConfig>): FileForm<TriAdaptConfig> {
  const whole = new Map<string, AdapterTensor>();
  const pieces = new Map<string, AdapterTensor[]>();
  for (const [name, tensor] of tensors) {
    const [, site, key, index] = pieceName.exec(name) ?? [];
    if (site === undefined || key === undefined) {
      whole.set(name, tensor);
      continue;
    }
    const list = pieces.get(`${site}.${key}`) ?? [];
    list[Number(index)] = tensor;
    pieces.set(`${site}.${key}`, list);
  }
  for (const [name, list] of pieces) whole.set(name, joined(name, Array.from(list)));
  return { config, tensors: whole };
}

function joined(name: string, list: readonly (AdapterTensor | undefined)[]): AdapterTensor {
  const key = tensorName.exec(name)?.[2] ?? "";
  const alongColumns = key === "lora_B" || key === "lora_C_col";
  const sizes = list.map((piece) => piece?.dims[alongColumns ? 1 : 0] ?? 0);
  const rank = sizes.reduce((a, b) => a + b, 0);
  const [rows = 0, columns = 0] = list[0]?.dims ?? [];
  const dims = key === "lora_A" ? [rank, columns] : key === "lora_B" ? [rows, rank] : [rank, rank];
  const data = new Float32Array((dims[0] ?? 0) * (dims[1] ?? 0));
  let from = 0;
  list.forEach((piece, i) => {
    const end = from + (sizes[i] ?? 0);
    const [[top, bottom], [left, right]] = placeOf(key, from, end, dims);
    const [height, width] = piece?.dims ?? [];
    if (!piece || height !== bottom - top || width !== right - left) {
      throw new PeftError(
        "ADAPTER_MISMATCH",
        `"${name}.${i}" should be [${bottom - top}, ${right - left}], received ${piece ? `[${piece.dims.join(", ")}]` : "none"}.`,
      );
    }
    paste(data, dims[1] ?? 0, piece, top, left);
    from = end;
  });
  return { dims, data };
}
