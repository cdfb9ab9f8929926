import { decodeOnnxAdapter } from "../formats/onnx-adapter/decode.ts";
import { encodeOnnxAdapter } from "../formats/onnx-adapter/encode.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { type FuzzTarget, promise } from "../testing/fuzz/target.ts";

const seeds = (): Uint8Array[] => [
  encodeOnnxAdapter(
    new Map([
      ["layer.0.query.lora_A.weight", tensorFrom("float32", [2, 3], [1, 2, 3, 4, 5, 6])],
      ["ids", tensorFrom("int64", [3], [1, -1, 2])],
      ["odd", tensorFrom("uint8", [3], [1, 0, 1])],
      ["none", tensorFrom("float16", [0, 4], [])],
    ]),
    { adapterVersion: 3, modelVersion: -4 },
  ),
  encodeOnnxAdapter(new Map([["x", tensorFrom("float32", [1], [1])]])),
  encodeOnnxAdapter(new Map()),
];

/** The reader of .onnx_adapter files; data lies inside the file, and comes back the same when written. */
export const onnxAdapterTarget = (): FuzzTarget => ({
  name: "onnx-adapter",
  seeds: seeds(),
  mutations: [],
  codes: new Set(["ONNX_ADAPTER_INVALID"]),
  run(input) {
    const { parameters, adapterVersion, modelVersion } = decodeOnnxAdapter(input);
    for (const { data } of parameters.values()) {
      const bytes = data as Uint8Array;
      const inside =
        bytes.buffer === input.buffer && bytes.byteOffset + bytes.length <= input.byteOffset + input.length;
      promise(inside, "data lies outside the file");
    }
    const again = decodeOnnxAdapter(encodeOnnxAdapter(parameters, { adapterVersion, modelVersion }));
    const same = again.adapterVersion === adapterVersion && again.modelVersion === modelVersion;
    promise(same && again.parameters.size === parameters.size, "versions or parameters changed");
    for (const [name, { type, dims, data }] of parameters) {
      const other = again.parameters.get(name);
      promise(
        other?.type === type &&
          `${other.dims}` === `${dims}` &&
          Buffer.compare(other.data as Uint8Array, data as Uint8Array) === 0,
        `parameter ${JSON.stringify(name)} changed`,
      );
    }
  },
});
