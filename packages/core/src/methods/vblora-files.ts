import { PeftError } from "../errors.ts";
import type { AdapterTensor, FileForm } from "./method.ts";

interface Config {
  readonly numVectors: number;
  readonly topk: number;
  readonly saveOnlyTopkWeights: boolean;
}

const logitsName = /\.vblora_logits_[AB]$/;
const indices = "_topk_indices";
const weights = "_topk_weights";
/** Logits of vectors that were not chosen, and of chosen ones with no share: finite, as checkpoints refuse infinities. */
const [NEVER, NO_SHARE] = [-10_000, -200];

/** The smallest type that holds the number of any vector, as peft chooses it. */
const indexType = (count: number): "uint8" | "int16" | "int32" =>
  count < 2 ** 8 ? "uint8" : count < 2 ** 15 ? "int16" : "int32";

/** The largest `topk` of a row of logits, in falling order, and their softmax. */
export function chosenVectors(
  row: Float32Array,
  topk: number,
): { readonly places: number[]; readonly shares: number[] } {
  const places = [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number) || a - b).slice(0, topk);
  const largest = row[places[0] as number] as number;
  const powers = places.map((place) => Math.exp((row[place] as number) - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return { places, shares: powers.map((power) => power / total) };
}

/** With `saveOnlyTopkWeights` the chosen vectors and all shares but the last, which the others leave over, in the place of the logits. */
export function withoutLogits<C extends Config>({ config, tensors }: FileForm<C>): FileForm<C> {
  const { topk, numVectors, saveOnlyTopkWeights } = config;
  const pieces = new Map<string, AdapterTensor>();
  for (const [name, tensor] of tensors) {
    if (!saveOnlyTopkWeights || !logitsName.test(name)) {
      pieces.set(name, tensor);
      continue;
    }
    const { dims, data } = tensor;
    const chosen = Array.from({ length: data.length / numVectors }, (_, i) =>
      chosenVectors(data.subarray(i * numVectors, (i + 1) * numVectors), topk),
    );
    const shape = (last: number): number[] => [...dims.slice(0, -1), last];
    pieces.set(`${name}${indices}`, {
      dims: shape(topk),
      data: Float32Array.from(chosen.flatMap(({ places }) => places)),
      fileType: indexType(numVectors),
    });
    pieces.set(`${name}${weights}`, {
      dims: shape(topk - 1),
      data: Float32Array.from(chosen.flatMap(({ shares }) => shares.slice(0, -1))),
    });
  }
  return { config, tensors: pieces };
}

/**
 * Logits that give the shares of such a file: their logarithms, and for vectors that were not chosen a value so low that
 * training does not choose them any more.
 * @throws PeftError ADAPTER_MISMATCH when the two tensors of a module do not fit the config or each other
 */
export function fromChosen<C extends Config>({ config, tensors }: FileForm<C>): FileForm<C> {
  const { topk, numVectors } = config;
  const whole = new Map<string, AdapterTensor>();
  for (const [name, tensor] of tensors) {
    if (name.endsWith(weights) && tensors.has(`${name.slice(0, -weights.length)}${indices}`)) continue;
    if (!name.endsWith(indices)) {
      whole.set(name, tensor);
      continue;
    }
    const logits = name.slice(0, -indices.length);
    whole.set(logits, logitsOf(logits, tensor, tensors.get(`${logits}${weights}`), { topk, numVectors }));
  }
  return { config, tensors: whole };
}

function logitsOf(
  name: string,
  places: AdapterTensor,
  shares: AdapterTensor | undefined,
  { topk, numVectors }: Pick<Config, "topk" | "numVectors">,
): AdapterTensor {
  const outer = places.dims.slice(0, -1);
  const rows = outer.reduce((a, b) => a * b, 1);
  const expected = [...outer, topk - 1].join(", ");
  if (places.dims.at(-1) !== topk || shares?.dims.join(", ") !== expected) {
    throw new PeftError(
      "ADAPTER_MISMATCH",
      `"${name}" should have indices [..., ${topk}] and weights [${expected}], received [${places.dims.join(", ")}] and ${shares ? `[${shares.dims.join(", ")}]` : "none"}.`,
    );
  }
  const data = new Float32Array(rows * numVectors).fill(NEVER);
  for (let row = 0; row < rows; row++) {
    const own = shares.data.subarray(row * (topk - 1), (row + 1) * (topk - 1));
    const rest = 1 - own.reduce((a, b) => a + b, 0);
    [...own, rest].forEach((share, k) => {
      const place = places.data[row * topk + k] as number;
      if (!(place >= 0 && place < numVectors && share >= 0 && share <= 1)) {
        throw new PeftError(
          "ADAPTER_MISMATCH",
          `"${name}" should choose among ${numVectors} vectors with shares from 0 to 1, received vector ${place} with ${share}.`,
        );
      }
      data[row * numVectors + place] = Math.max(Math.log(share), NO_SHARE);
    });
  }
  return { dims: [...outer, numVectors], data };
}
