import { decodeSafetensors } from "../formats/safetensors/read.ts";
import { encodeSafetensors } from "../formats/safetensors/write.ts";
import { readTensorBytes, tensorFrom } from "../onnx/tensor.ts";
import { mutateSafetensors } from "../testing/fuzz/mutate-text.ts";
import { type FuzzTarget, promise } from "../testing/fuzz/target.ts";

const seeds = (): Uint8Array[] => [
  encodeSafetensors(
    [
      ["b", tensorFrom("float32", [2, 3], [1, 2, 3, 4, 5, -6])],
      ["flag", tensorFrom("bool", [3], [1, 0, 1])],
      ["ids", tensorFrom("int64", [2], [1, -1])],
      ["a", tensorFrom("float32", [], [7])],
      ["empty", tensorFrom("float16", [0, 4], [])],
    ],
    { format: "pt", é: '"\n' },
  ),
  encodeSafetensors([["base_model.model.q.lora_A.weight", tensorFrom("float32", [1, 2], [1, 2])]]),
  encodeSafetensors([]),
];

/** The reader of safetensors; accepted files cover themselves, and come back the same when written. */
export const safetensorsTarget = (): FuzzTarget => ({
  name: "safetensors",
  seeds: seeds(),
  mutations: [mutateSafetensors],
  codes: new Set(["SAFETENSORS_INVALID", "PICKLE_REFUSED"]),
  run(input) {
    const { tensors, metadata } = decodeSafetensors(input);
    let covered = 8 + Number(new DataView(input.buffer, input.byteOffset).getBigUint64(0, true));
    for (const tensor of tensors.values()) covered += readTensorBytes(tensor).length;
    promise(covered === input.length, `${covered} of ${input.length} bytes are used`);
    const again = decodeSafetensors(encodeSafetensors(tensors, metadata));
    promise(again.tensors.size === tensors.size, "the number of tensors changed");
    for (const [name, { type, dims, data }] of tensors) {
      const other = again.tensors.get(name);
      const same = other?.type === type && `${other.dims}` === `${dims}`;
      promise(
        same && Buffer.compare(other.data as Uint8Array, data as Uint8Array) === 0,
        `tensor ${JSON.stringify(name)} changed`,
      );
    }
  },
});
