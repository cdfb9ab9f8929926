import { toNumbers } from "@onnx-peft/core";
import { type GoldenTensors, goldenTensor } from "./golden.ts";

/** Values of a golden tensor of integers or float64. */
export const numbersOf = (tensors: GoldenTensors, name: string): number[] => toNumbers(goldenTensor(tensors, name));
