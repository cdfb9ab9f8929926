import type { Random } from "../random/random.ts";

/** What an initialiser may use. */
export interface InitInput {
  readonly shape: readonly number[];
  /** A stream of this parameter's own. */
  readonly random: Random;
  /** Values of the operand that the parameter replaces, in PyTorch's layout. */
  base(): Float32Array;
}

/** Start values of a parameter. */
export type Init = (input: InitInput) => Float32Array;

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export const zeros: Init = ({ shape }) => new Float32Array(count(shape));
export const constant =
  (value: number): Init =>
  ({ shape }) =>
    new Float32Array(count(shape)).fill(value);
export const ones: Init = constant(1);

/**
 * Uniform in +-gain * sqrt(3 / fanIn), gain = sqrt(2 / (1 + a^2)), fanIn the product of all axes but the first: PyTorch's
 * `kaiming_uniform_`. With a = sqrt(5) that is +-1 / sqrt(fanIn), PyTorch's start for Linear. He et al. 2015.
 */
export const kaimingUniform =
  (a: number): Init =>
  ({ shape, random }) => {
    const bound = Math.sqrt(6 / ((1 + a * a) * count(shape.slice(1))));
    return random.fillUniform(new Float32Array(count(shape)), -bound, bound);
  };

/** Uniform in [-bound, bound). */
export const uniform =
  (bound: number): Init =>
  ({ shape, random }) =>
    random.fillUniform(new Float32Array(count(shape)), -bound, bound);

/** Uniform in +-sqrt(6 / (fanIn + fanOut)) for a matrix [fanOut, fanIn]: PyTorch's `xavier_uniform_`. Glorot and Bengio 2010. */
export const xavierUniform = (fanIn: number, fanOut: number): Init => uniform(Math.sqrt(6 / (fanIn + fanOut)));

/** Normal with mean 0. */
export const normal =
  (std: number): Init =>
  ({ shape, random }) =>
    random.fillNormal(new Float32Array(count(shape)), 0, std);

/** Normal with mean 0, drawn again outside of `bound` standard deviations: PyTorch's `trunc_normal_` with bounds of its own. */
export const truncatedNormal =
  (std: number, bound: number): Init =>
  ({ shape, random }) => {
    const values = new Float32Array(count(shape));
    for (let i = 0; i < values.length; i++) {
      let z = random.normal();
      while (Math.abs(z) > bound) z = random.normal();
      values[i] = std * z;
    }
    return values;
  };

/** The base model's own values. */
export const copyOfBase: Init = ({ base }) => base().slice();
