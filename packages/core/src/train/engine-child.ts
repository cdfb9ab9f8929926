/** The process that trains: answers the calls of `engine-process.ts`, one at a time, over its IPC channel. */
import { rmSync } from "node:fs";
import { PeftError } from "../errors.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { createEngine } from "./engine.ts";
import { type FileEngine, readParameters, withFiles, writeParameters } from "./engine-files.ts";
import type { EngineRequest, EngineResponse, OpenRequest, SerializedError } from "./engine-protocol.ts";

let engine: FileEngine | undefined;
let exchangeFolder: string | undefined;

function opened(): FileEngine {
  if (!engine) throw new PeftError("ENGINE", "The engine was called before it was opened.");
  return engine;
}

async function open(request: OpenRequest): Promise<void> {
  exchangeFolder = request.exchangeFolder;
  const parameters = await readParameters(request.parametersPath);
  engine = withFiles(await createEngine(onnxruntimeNode, { ...request.setup, parameters }));
}

async function answer(request: EngineRequest): Promise<unknown> {
  switch (request.call) {
    case "open":
      return open(request.argument);
    case "step":
      return opened().step(request.argument);
    case "evaluate":
      return opened().evaluate(request.argument);
    case "keepBest":
      return opened().keepBest(request.argument ?? undefined);
    case "bestParameters":
      return writeParameters(request.argument, await opened().bestParameters());
    case "save":
      return opened().save(request.argument);
    case "restore":
      return opened().restore(request.argument);
    case "close":
      return engine?.close();
  }
}

function serialize(error: unknown): SerializedError {
  if (PeftError.isInstance(error)) return { code: error.code, message: error.message, details: error.details };
  return { code: null, message: error instanceof Error ? (error.stack ?? error.message) : String(error), details: {} };
}

const send = (response: EngineResponse): void => {
  // A parent that is gone wants no answer; "disconnect" ends this process.
  process.send?.(response, undefined, {}, () => {});
};

// The engine yields between micro-batches, so a second call could otherwise begin inside a step.
let queue: Promise<void> = Promise.resolve();
process.on("message", (request: EngineRequest) => {
  queue = queue
    .then(() => answer(request))
    .then(
      (result) => send({ id: request.id, ok: true, result: result ?? null }),
      (error: unknown) => send({ id: request.id, ok: false, error: serialize(error) }),
    );
});

// Ctrl-C reaches the whole process group; what it means is the parent's decision (it may want a last checkpoint).
process.on("SIGINT", () => {});

// The parent is gone: nobody wants the result any more.
process.on("disconnect", () => {
  if (exchangeFolder !== undefined) rmSync(exchangeFolder, { recursive: true, force: true });
  process.exit(0);
});
