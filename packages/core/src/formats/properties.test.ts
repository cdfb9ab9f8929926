import fc from "fast-check";
import { expect, test } from "vitest";
import { fromPeft, toPeft } from "../adapters/peft-files.ts";
import type { ElementType } from "../onnx/element-type.ts";
import { byteLength } from "../onnx/element-type.ts";
import type { TensorData } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { decodeOnnxAdapter } from "./onnx-adapter/decode.ts";
import { encodeOnnxAdapter } from "./onnx-adapter/encode.ts";
import { camelFromSnake, snakeFromCamel } from "./peft/config-case.ts";
import { parseLoraConfig } from "./peft/lora-config.ts";
import { decodeSafetensors } from "./safetensors/read.ts";
import { encodeSafetensors } from "./safetensors/write.ts";
import { parseStrictJson, plainJson } from "./strict-json.ts";

const loneSurrogate = /\p{Surrogate}/u;
const text = fc.string({ unit: "grapheme", maxLength: 12 }).filter((s) => !loneSurrogate.test(s));
const name = text.filter((s) => s !== "" && s !== "__metadata__");
const types: readonly ElementType[] = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "int8"];

const tensorOf = (minRank: number): fc.Arbitrary<TensorData> =>
  fc
    .record({
      type: fc.constantFrom(...types),
      dims: fc.array(fc.nat(4), { minLength: minRank, maxLength: 4 }),
      seed: fc.nat(255),
    })
    .map(({ type, dims, seed }) => {
      const length = byteLength(
        type,
        dims.reduce((a, b) => a * b, 1),
      );
      return { type, dims, data: Uint8Array.from({ length }, (_, i) => seed + 31 * i) };
    });

const tensors = (minRank: number) =>
  fc
    .uniqueArray(fc.tuple(name, tensorOf(minRank)), { selector: ([n]) => n, maxLength: 6 })
    .map((list) => new Map(list));

test("safetensors: written and read back, in any order", () => {
  fc.assert(
    fc.property(tensors(0), fc.dictionary(text, text, { noNullPrototype: true, maxKeys: 4 }), (original, metadata) => {
      const read = decodeSafetensors(encodeSafetensors(original, metadata));
      expect(read.metadata).toEqual(metadata);
      expect(read.tensors).toEqual(original);
      const reversed = new Map([...original].reverse());
      expect(encodeSafetensors(reversed, metadata)).toEqual(encodeSafetensors(original, metadata));
    }),
    { numRuns: 200, seed: 1 },
  );
});

test(".onnx_adapter: written and read back", () => {
  const version = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  fc.assert(
    fc.property(tensors(1), version, version, (parameters, adapterVersion, modelVersion) => {
      const read = decodeOnnxAdapter(encodeOnnxAdapter(parameters, { adapterVersion, modelVersion }));
      expect(read).toEqual({ formatVersion: 1, adapterVersion, modelVersion, parameters });
    }),
    { numRuns: 200, seed: 1 },
  );
});

test("strict JSON: what JSON.stringify writes has the same value, with any white space", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.constantFrom("", " ", "\t", "\n"), (value, space) => {
      const written = JSON.stringify(value, null, space);
      if (loneSurrogate.test(written) || /\\ud[89a-f]/i.test(written)) return; // half characters are refused
      expect(plainJson(parseStrictJson(written, { where: "test", code: "BAD" }))).toEqual(JSON.parse(written));
    }),
    { numRuns: 500, seed: 1 },
  );
});

const moduleName = fc
  .array(fc.constantFrom("encoder", "layer", "0", "11", "query", "q_proj", "norm"), { minLength: 1, maxLength: 4 })
  .map((parts) => parts.join("."));

const loraFields = fc.record(
  {
    peft_type: fc.constant("LORA"),
    r: fc.integer({ min: 1, max: 65_536 }),
    lora_alpha: fc.double({ min: -1e9, max: 1e9, noNaN: true }).map((x) => x + 0),
    lora_dropout: fc.double({ min: 0, max: 0.99, noNaN: true }).map((x) => x + 0),
    use_rslora: fc.boolean(),
    target_modules: fc.oneof(
      fc.array(moduleName, { minLength: 1, maxLength: 3 }),
      fc.constant("all-linear"),
      moduleName,
    ),
    modules_to_save: fc.array(moduleName, { minLength: 1, maxLength: 2 }),
    rank_pattern: fc.dictionary(moduleName, fc.integer({ min: 1, max: 64 }), { noNullPrototype: true, maxKeys: 3 }),
    alpha_pattern: fc.dictionary(moduleName, fc.integer({ min: 1, max: 64 }), { noNullPrototype: true, maxKeys: 3 }),
    revision: fc.option(text),
    unknown_option: fc.jsonValue({ maxDepth: 2 }),
  },
  { requiredKeys: ["peft_type", "target_modules"], noNullPrototype: true },
);

test("peft configs: through our names and back, nothing is lost and a second time nothing changes", () => {
  const weights = new Map([["encoder.query.lora_A.weight", tensorFrom("float32", [1, 2], [1, 2])]]);
  fc.assert(
    fc.property(loraFields, (fields) => {
      const parsed = parseLoraConfig(fields);
      const written = toPeft(fromPeft({ config: fields, tensors: weights })).config;
      for (const [key, value] of Object.entries(fields)) {
        if (value !== null && key !== "inference_mode") expect(written[key], key).toEqual(value);
      }
      expect(parseLoraConfig(written)).toMatchObject({ r: parsed.r, lora_alpha: parsed.lora_alpha });
      const again = toPeft(fromPeft({ config: written, tensors: weights })).config;
      expect(again).toEqual(written);
      expect(snakeFromCamel(camelFromSnake(written))).toEqual(written);
    }),
    { numRuns: 300, seed: 1 },
  );
});
