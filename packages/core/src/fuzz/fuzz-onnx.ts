import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findSites } from "../adapters/sites.ts";
import { importGraph } from "../graph/import-graph.ts";
import { decodeModel } from "../onnx/decode.ts";
import type { Model } from "../onnx/ir.ts";
import { encodeModel } from "../onnx/write.ts";
import { mutateProtobuf } from "../testing/fuzz/mutate-protobuf.ts";
import { type FuzzTarget, promise } from "../testing/fuzz/target.ts";
import { mutateModel } from "./mutate-model.ts";
import { onnxSeeds } from "./onnx-seeds.ts";

/** Codes of the reader and of the writer, which refuses what it could not write faithfully. */
const readerCodes = [
  "ONNX_TRUNCATED",
  "ONNX_INVALID",
  "ONNX_LIMIT",
  "ONNX_UNSUPPORTED",
  "ONNX_EXTERNAL_DATA",
  "UNKNOWN_ELEMENT_TYPE",
];

/** Codes of the steps behind the reader: the graph is well formed, but its operators do not fit together. */
const graphCodes = [
  "SHAPE_INFERENCE",
  "UNSUPPORTED_OPERATOR",
  "NOT_LOWERED",
  "UNKNOWN_VALUE",
  "DUPLICATE_VALUE",
  "AMBIGUOUS_SITE",
  "INDEX",
  "VALUE_OUT_OF_RANGE",
  "SHAPE_MISMATCH",
];

/** A folder with the external data that the seeds name; it goes when the process ends. */
function dataFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "fuzz-onnx-"));
  writeFileSync(join(folder, "w.bin"), new Uint8Array(64));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writing a model, reading it and writing it again must give the same bytes. */
function checkRoundTrip(model: Model): void {
  const first = encodeModel(model);
  const second = encodeModel(decodeModel(first));
  promise(Buffer.compare(first, second) === 0, "a model that was written and read is written differently");
}

/** The reader of ONNX files, then: write and read again, sites of adapters, shape inference. */
export function onnxTarget(): FuzzTarget {
  const folder = dataFolder();
  return {
    name: "onnx",
    seeds: onnxSeeds(),
    mutations: [mutateProtobuf, mutateModel],
    codes: new Set([...readerCodes, ...graphCodes]),
    run(input) {
      const model = decodeModel(input, { folder });
      checkRoundTrip(model);
      findSites(model);
      importGraph(model.graph, model.opsets.get("") ?? 17);
    },
  };
}
