import { existsSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { createBuilder } from "../graph/builder.ts";
import { toModel } from "../graph/to-model.ts";
import { encodeModel } from "../onnx/write.ts";
import { onDevice } from "./device.ts";
import { onnxruntimeNode } from "./onnxruntime-node.ts";
import { placementIn } from "./placement.ts";
import type { OpenOptions, Runtime } from "./runtime.ts";

function doubled(): Uint8Array {
  const g = createBuilder();
  const x = g.input("x", "float32", [2]);
  g.output(g.mul(x, g.add(x, x)), "y");
  return encodeModel(toModel(g.finish(), g.opset));
}
const feeds = { x: { type: "float32", dims: [2], data: Float32Array.of(1, 2) } } as const;
const hasCuda = existsSync("/dev/nvidiactl");

test("a device is the first provider of everything that is opened", async () => {
  const asked: (OpenOptions | undefined)[] = [];
  const double: Runtime = {
    name: "double",
    async open(model, options) {
      asked.push(options);
      return onnxruntimeNode.open(model, { threads: 1 });
    },
  };
  for (const device of ["cuda", "webgpu", "cpu"] as const) {
    await (await onDevice(double, device).open(doubled(), { purpose: "evaluation" })).close();
  }
  expect(asked).toEqual([
    { purpose: "evaluation", providers: ["cuda", "cpu"] },
    { purpose: "evaluation", providers: ["webgpu", "cpu"] },
    { purpose: "evaluation" },
  ]);
});

test.skipIf(hasCuda)("a provider that does not start is an error that says how to get it", async () => {
  await expect(onnxruntimeNode.open(doubled(), { providers: ["cuda", "cpu"], quiet: true })).rejects.toMatchObject({
    code: "DEVICE_UNAVAILABLE",
    message: expect.stringMatching(/"cuda" to start, received from ONNX Runtime: .*ONNXRUNTIME_NODE_INSTALL=cuda12/s),
    details: { provider: "cuda" },
  });
});

test("a provider that the binding was built without is not left out silently", async () => {
  await expect(onnxruntimeNode.open(doubled(), { providers: ["abacus", "cpu"] })).rejects.toMatchObject({
    code: "DEVICE_UNAVAILABLE",
    message: expect.stringMatching(/"abacus" to start, received .* built with \[cpu/),
  });
});

test("a bad graph is one on the CPU too", async () => {
  await expect(onnxruntimeNode.open(Uint8Array.of(1, 2, 3), { providers: ["cpu"], quiet: true })).rejects.toMatchObject(
    {
      code: "RUNTIME_OPEN",
    },
  );
});

test("the first run of a session says where nodes ran, and leaves no file behind", async () => {
  const before = readdirSync(tmpdir()).filter((name) => name.startsWith("onnx-peft-placement-"));
  const session = await onnxruntimeNode.open(doubled(), { recordPlacement: true, threads: 1 });
  expect(session.placement).toBeUndefined();
  const { y } = await session.run(feeds);
  expect(Array.from(y?.data as Float32Array)).toEqual([2, 8]);
  const placement = { deviceNodes: 0, cpuNodes: 2, copies: 0, cpuOperators: { Mul: 1, Add: 1 } };
  expect(session.placement).toEqual(placement);
  await session.run(feeds);
  expect(session.placement).toEqual(placement);
  await session.close();
  const after = readdirSync(tmpdir()).filter((name) => name.startsWith("onnx-peft-placement-"));
  expect(after.filter((name) => !before.includes(name))).toEqual([]);
});

test("a profile's nodes are counted by provider, copies apart", () => {
  const node = (name: string, op_name: string, provider: string) => ({
    cat: "Node",
    name: `${name}_kernel_time`,
    args: { op_name, provider },
  });
  const [gpu, cpu] = ["CUDAExecutionProvider", "CPUExecutionProvider"];
  const profile = [
    { cat: "Session", name: "model_run" },
    { cat: "Node", name: "a_fence_before", args: { op_name: "MatMul" } },
    ...[node("a", "MatMul", gpu), node("a", "MatMul", gpu), node("b", "Softmax", gpu)],
    ...[node("c", "Concat", cpu), node("d", "Gather", cpu), node("e", "Gather", cpu)],
    node("Memcpy_1", "MemcpyToHost", gpu),
  ];
  expect(placementIn(JSON.stringify(profile))).toEqual({
    ...{ deviceNodes: 2, cpuNodes: 3, copies: 1 },
    cpuOperators: { Gather: 2, Concat: 1 },
  });
});
