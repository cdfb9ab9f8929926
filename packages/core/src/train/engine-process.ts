import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { PeftError } from "../errors.ts";
import type { Engine, EngineSetup } from "./engine.ts";
import type { EngineCallName, EngineCalls, EngineResponse } from "./engine-protocol.ts";

/**
 * The compiled child. Tests and tools that run from the TypeScript sources use the build too: Node 20 cannot start a
 * process from a .ts file.
 */
function childPath(): string {
  const own = import.meta.url;
  return fileURLToPath(new URL(own.endsWith(".ts") ? "../../dist/train/engine-child.js" : "./engine-child.js", own));
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/**
 * An engine in a process of its own. ONNX Runtime's `run` blocks its thread and an abort inside it ends its process;
 * here neither touches the caller: the event loop stays free, and a crash is a rejected promise with code
 * ENGINE_CRASHED. Memory is that process's own and is given back when it ends.
 */
export async function createEngineProcess(setup: EngineSetup): Promise<Engine & { readonly pid: number }> {
  const child = fork(childPath(), [], { serialization: "advanced", execArgv: [], stdio: ["ignore", "ignore", "pipe", "ipc"] });
  const waiting = new Map<number, Waiting>();
  const lastWords = collectStderr(child);
  let next = 0;
  let ended: PeftError | undefined;

  const end = (error: PeftError): void => {
    ended ??= error;
    for (const { reject } of waiting.values()) reject(ended);
    waiting.clear();
  };
  child.on("message", (message: EngineResponse) => {
    const caller = waiting.get(message.id);
    waiting.delete(message.id);
    if (!caller) return;
    if (message.ok) caller.resolve(message.result);
    else caller.reject(revive(message.error));
  });
  child.on("exit", (code, signal) => {
    end(new PeftError("ENGINE_CRASHED", `The training process ended (${signal ?? `exit code ${code}`}) before it answered.${lastWords()}`, {
      hint: "If the system was short of memory, lower the micro-batch size; the last checkpoint can be resumed.",
    }));
  });
  child.on("error", (cause) => end(new PeftError("ENGINE_CRASHED", `The training process could not be started: ${cause.message}.`, { cause })));

  const call = <K extends EngineCallName>(name: K, argument: EngineCalls[K]["argument"]): Promise<EngineCalls[K]["result"]> =>
    new Promise((resolve, reject) => {
      if (ended) {
        reject(ended);
        return;
      }
      const id = next++;
      waiting.set(id, { resolve: resolve as Waiting["resolve"], reject });
      child.send({ id, call: name, argument });
    });

  try {
    await call("open", setup);
  } catch (error) {
    child.kill();
    throw error;
  }
  return {
    pid: child.pid ?? -1,
    step: (request) => call("step", request),
    evaluate: (feeds) => call("evaluate", feeds),
    state: () => call("state", null),
    restore: async (state) => {
      await call("restore", state);
    },
    async close() {
      if (ended) return;
      const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
      await call("close", null);
      ended = new PeftError("ENGINE", "This engine is closed.");
      child.disconnect();
      await gone;
    },
  };
}

/** The end of what the child wrote to its error stream, for the crash report. */
function collectStderr(child: ChildProcess): () => string {
  let text = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-2000);
  });
  return () => (text === "" ? "" : ` It said: ${text.trim()}`);
}

function revive({ code, message, details }: { code: string | null; message: string; details: Record<string, unknown> }): Error {
  return code === null ? new Error(message) : new PeftError(code, message, { details });
}
