import { parentPort } from "node:worker_threads";
import { PeftError } from "../errors.ts";
import { operations } from "./operations.ts";
import type { WorkerRequest, WorkerResponse } from "./pool.ts";

/** A thread of the pool: one decomposition after the other. */
parentPort?.on("message", ({ id, operation, matrix }: WorkerRequest) => {
  let response: WorkerResponse;
  try {
    response = { id, parts: operations[operation].pack(matrix) };
  } catch (error) {
    const code = PeftError.isInstance(error) ? error.code : "LINALG_WORKER";
    response = { id, error: { code, message: error instanceof Error ? error.message : String(error) } };
  }
  const buffers = "parts" in response ? response.parts.map(({ data }) => data.buffer as ArrayBuffer) : [];
  parentPort?.postMessage(response, buffers);
});
