/** The process that trains: answers the calls of `engine-process.ts`, one at a time, over its IPC channel. */
import { PeftError } from "../errors.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { createEngine, type Engine, type EngineSetup, type EngineState, type StepRequest } from "./engine.ts";
import type { EngineRequest, EngineResponse } from "./engine-protocol.ts";
import type { Feeds } from "../runtime/runtime.ts";

let engine: Engine | undefined;

function opened(): Engine {
  if (!engine) throw new PeftError("ENGINE", "The engine was called before it was opened.");
  return engine;
}

async function answer({ call, argument }: EngineRequest): Promise<unknown> {
  switch (call) {
    case "open":
      engine = await createEngine(onnxruntimeNode, argument as EngineSetup);
      return null;
    case "step":
      return opened().step(argument as StepRequest);
    case "evaluate":
      return opened().evaluate(argument as Feeds);
    case "state":
      return opened().state();
    case "restore":
      return opened().restore(argument as EngineState);
    case "close":
      await opened().close();
      return null;
  }
}

function serialize(error: unknown): Extract<EngineResponse, { ok: false }>["error"] {
  if (PeftError.isInstance(error)) return { code: error.code, message: error.message, details: error.details };
  return { code: null, message: error instanceof Error ? error.message : String(error), details: {} };
}

const send = (response: EngineResponse): void => {
  process.send?.(response);
};

process.on("message", (request: EngineRequest) => {
  answer(request).then(
    (result) => send({ id: request.id, ok: true, result }),
    (error: unknown) => send({ id: request.id, ok: false, error: serialize(error) }),
  );
});

// The parent is gone: nobody wants the result any more.
process.on("disconnect", () => process.exit(0));
