import type { Value } from "../onnx/ir.ts";
import { float } from "./attributes.ts";
import type { GraphCore } from "./core.ts";

export interface MatMulOptions {
  transA?: boolean;
  transB?: boolean;
  alpha?: number;
}

/** Products of matrices. */
export function matrixOps(core: GraphCore) {
  const flags = (o: MatMulOptions) => ({
    transA: o.transA ? 1 : 0,
    transB: o.transB ? 1 : 0,
    alpha: float(o.alpha ?? 1),
  });
  return {
    matMul: (a: Value, b: Value): Value => core.op("MatMul", [a, b])[0] as Value,
    /** alpha * A'·B' with either factor's last two axes swapped; batch axes broadcast. ONNX Runtime's own operator. */
    fusedMatMul: (a: Value, b: Value, options: MatMulOptions = {}): Value => {
      const plain = !options.transA && !options.transB && (options.alpha ?? 1) === 1;
      if (plain) return core.op("MatMul", [a, b])[0] as Value;
      return core.op("FusedMatMul", [a, b], flags(options), { domain: "com.microsoft" })[0] as Value;
    },
    /** alpha * A'·B' + C for matrices A, B; C broadcasts to [M, N]. */
    gemm: (a: Value, b: Value, c: Value | null = null, options: MatMulOptions & { beta?: number } = {}): Value =>
      core.op("Gemm", [a, b, c], { ...flags(options), beta: float(options.beta ?? 1) })[0] as Value,
  };
}
