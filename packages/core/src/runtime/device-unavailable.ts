import { PeftError } from "../errors.ts";

const hints: Readonly<Record<string, string>> = {
  cuda:
    "It runs on Linux x64 with an NVIDIA driver, CUDA and cuDNN 9. Its libraries are not in the package of onnxruntime-node: " +
    "ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js fetches those for CUDA 12.",
  webgpu:
    "On Linux it needs libvulkan.so.1 (Debian and Ubuntu: libvulkan1) and a Vulkan driver, on Windows Direct3D 12, on macOS Metal.",
};

/** The error of an execution provider that does not start on this machine. Nothing goes on with the CPU in its place. */
export function deviceUnavailable(provider: string, cause: unknown): PeftError {
  const said = cause instanceof Error ? cause.message : String(cause);
  return new PeftError(
    "DEVICE_UNAVAILABLE",
    `Expected the execution provider "${provider}" to start, received from ONNX Runtime: ${said.trim()}.`,
    { hint: hints[provider] ?? 'Choose another one: "cpu" is always there.', details: { provider }, cause },
  );
}
