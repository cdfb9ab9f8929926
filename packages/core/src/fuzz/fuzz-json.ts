import { isDeepStrictEqual } from "node:util";
import { decodeUtf8, parseStrictJson, plainJson } from "../formats/strict-json.ts";
import { mutateJson } from "../testing/fuzz/mutate-text.ts";
import { type FuzzTarget, promise } from "../testing/fuzz/target.ts";

const encoder = new TextEncoder();
const seeds = [
  '{"a":[1,2.5,-3e2],"b":{"c":"d\\n\\u00e9","e":null},"f":true,"g":[[],{}]}',
  '{"weight_map":{"a.weight":"model-00001-of-00002.safetensors"},"metadata":{"total_size":8}}',
  '["\\ud83d\\ude00", "x", -0, 1E40]',
];

/** The strict JSON reader: what it accepts, `JSON.parse` accepts too, with the same value. */
export const jsonTarget = (): FuzzTarget => ({
  name: "json",
  seeds: seeds.map((text) => encoder.encode(text)),
  mutations: [mutateJson],
  codes: new Set(["JSON"]),
  run(input) {
    const text = decodeUtf8(input, "the input", "JSON");
    const ours = plainJson(parseStrictJson(text, { where: "the input", code: "JSON" }));
    promise(isDeepStrictEqual(ours, JSON.parse(text)), "the value differs from that of JSON.parse");
  },
});
