import type { Builder } from "../graph/builder.ts";
import { addDims, floorDivide, mulDims, subDims } from "../onnx/dims.ts";
import { at } from "../onnx/infer/context.ts";
import { extentOf, paddingOf, type Windows } from "../onnx/infer/windows.ts";
import type { Dim, Value } from "../onnx/ir.ts";
import { upTo } from "./axes.ts";

/**
 * A convolution between a larger tensor X [batch, C, ...n] and a smaller one Y [batch, M, ...o] with the weight
 * W [M, C / group, ...k]; kernel sizes are numbers. Conv goes from X to Y, ConvTranspose from Y to X.
 */
export interface Convolution {
  readonly windows: Windows;
  readonly group: number;
}

/** Up to this many places of a kernel, and channels in times channels out of an image, {@link placeByPlace} is the faster way. */
const FEW_PLACES = 27;
const FEW_CHANNELS = 128 * 128;

/**
 * Which of the two ways to a weight gradient. Time of placeByPlace against bySwapping (one thread, the least of 40 runs in
 * turns): 1x1 0.15 with stride 1, 0.2 with 2; length 3 over 400 places 0.2, with stride 2 0.35; length 10, stride 5 1.0;
 * 3x3 over 64 channels of 28x28 0.5, with stride 2 1.0, over 128 of 14x14 0.7, over 256 of 7x7 1.1; 5x5 0.8; 3x3x3 0.8; 7x7
 * over 3 channels 4. With groups swapping wins or is equal, but for depth-wise 3x3 (0.4).
 */
function isPlaceByPlace({ windows: { kernel }, group }: Convolution, [m, c]: readonly Dim[]): boolean {
  const places = product(kernel);
  if (group > 1 || places > FEW_PLACES) return false;
  // A rank, which is a symbol, is small.
  const channels = typeof m === "number" && typeof c === "number" ? m * c : 0;
  return places === 1 || kernel.length === 1 || channels <= FEW_CHANNELS;
}

const product = (sizes: readonly Dim[]): number => sizes.reduce<number>((n, d) => n * Number(d), 1);
const spatialAxes = (x: Value): number[] => upTo(x.shape.length).slice(2);
const swap = (g: Builder, x: Value): Value => g.transpose(x, [1, 0, ...spatialAxes(x)]);

/** x[starts:ends] on the spatial axes, sizes as numbers or symbols. */
function sliceSpatial(g: Builder, x: Value, starts: readonly Dim[], ends: readonly Dim[], steps?: readonly number[]) {
  const bounds = [g.shapeTensor(starts), g.shapeTensor(ends), g.ints(spatialAxes(x))];
  return g.op("Slice", [x, ...bounds, ...(steps ? [g.ints(steps)] : [])])[0] as Value;
}

/** x [batch, channels, ...n] between zeros. */
function padSpatial(g: Builder, x: Value, heads: readonly Dim[], tails: readonly Dim[]): Value {
  if ([...heads, ...tails].every((d) => d === 0)) return x;
  return g.op("Pad", [x, g.shapeTensor([0, 0, ...heads, 0, 0, ...tails])])[0] as Value;
}

/** [M, C / group, ...k] mirrored along every spatial axis, as [C, M / group, ...k]. */
function mirrored(g: Builder, w: Value, group: number): Value {
  const axes = spatialAxes(w);
  const all = axes.map(() => -(2 ** 31));
  const minus = axes.map(() => -1);
  const flipped = g.reshapeLike(g.slice(w, minus, all, axes, minus), w);
  if (group === 1) return swap(g, flipped);
  const [m = 1, c = 1, ...k] = w.shape;
  const grouped = g.reshape(flipped, [group, floorDivide(m, group), c, ...k], w);
  const swapped = g.transpose(grouped, [0, 2, 1, ...axes.map((a) => a + 1)]);
  return g.reshape(swapped, [mulDims(c, group), floorDivide(m, group), ...k]);
}

/**
 * dX [batch, C, ...n] from dY [batch, M, ...o]. With strides of 1 a convolution with the mirrored weight, which costs as
 * much as the forward and 0.3-0.6 of ConvTranspose, over many groups 0.1-0.4; a frozen weight is mirrored once, when the session
 * is made, and held a second time. Else, and for 1x1, ConvTranspose over the weight as it is: where n is not known when
 * the graph is built it makes the most that a stride leaves open, and the rest is cut off. Saves nothing.
 */
export function inputGradient(g: Builder, { windows: w, group }: Convolution, dY: Value, weight: Value, x: Value) {
  const sizes = x.shape.slice(2);
  const axes = upTo(sizes.length);
  const pads = axes.map((i) => paddingOf(w, i, at(sizes, i)));
  const [heads, tails] = [pads.map((p) => p.head), pads.map((p) => p.tail)];
  const extents = axes.map((i) => Number(extentOf(w, i)));
  const [dilations, strides] = [w.dilations, w.strides];
  const around = [...heads, ...tails];
  const mirroredPads = around.map((p, i) => at(extents, i % sizes.length) - 1 - Number(p));
  if (strides.every((s) => s === 1) && product(w.kernel) > 1 && mirroredPads.every((p) => p >= 0)) {
    const kernel = mirrored(g, weight, group);
    return g.op("Conv", [dY, kernel], { pads: mirroredPads, dilations, group })[0] as Value;
  }
  // What the last window leaves over: less than a stride.
  const rest = axes.map((i) => {
    const last = addDims(mulDims(subDims(at(dY.shape, i + 2), 1), at(strides, i)), at(extents, i));
    const over = subDims(addDims(at(sizes, i), addDims(at(heads, i), at(tails, i))), last);
    return typeof over === "number" ? over : at(strides, i) - 1;
  });
  const known = around.every((p) => typeof p === "number");
  const made = g.op("ConvTranspose", [dY, weight], {
    strides,
    dilations,
    group,
    kernel_shape: w.kernel.map(Number),
    output_padding: rest,
    ...(known ? { pads: around.map(Number) } : {}),
  })[0] as Value;
  if (known && axes.every((i) => at(strides, i) === 1 || typeof at(sizes, i) === "number")) return made;
  const starts = known ? axes.map(() => 0) : heads;
  return sliceSpatial(
    g,
    made,
    starts,
    axes.map((i) => addDims(at(starts, i), at(sizes, i))),
  );
}

/** dW [M, C / group, ...k] from X and dY, in the shape of `weight`. Saves X. */
export function weightGradient(g: Builder, conv: Convolution, x: Value, dY: Value, weight: Value): Value {
  const way = isPlaceByPlace(conv, weight.shape) ? placeByPlace : bySwapping;
  return g.reshapeLike(way(g, conv, x, dY), weight);
}

/** X between its padding; a padding that ConvTranspose makes negative is not needed. */
function padded(g: Builder, w: Windows, x: Value): Value {
  const pads = x.shape.slice(2).map((size, i) => paddingOf(w, i, size));
  const atLeastZero = (d: Dim): Dim => (typeof d === "number" ? Math.max(0, d) : d);
  return padSpatial(
    g,
    x,
    pads.map((p) => p.head),
    pads.map((p) => atLeastZero(p.tail)),
  );
}

/**
 * dW[:, :, i...] = sum over the batch of dY [M, o...]·X'ᵀ, X' [C, o...] the entries of X that the place i of the kernel
 * meets: one product of matrices for every place.
 */
function placeByPlace(g: Builder, { windows: w }: Convolution, x: Value, dY: Value): Value {
  const flat = (v: Value): Value => g.op("Reshape", [v, g.ints([0, 0, -1])])[0] as Value;
  const rows = flat(dY);
  const input = padded(g, w, x);
  const windows = dY.shape.slice(2);
  const last = windows.map((o, i) => mulDims(subDims(o, 1), at(w.strides, i)));
  const isWhole = product(w.kernel) === 1 && w.strides.every((s) => s === 1);
  const parts = placesOf(w).map((place) => {
    const starts = place.map((p, i) => p * at(w.dilations, i));
    const ends = starts.map((start, i) => addDims(at(last, i), start + 1));
    const met = isWhole ? input : sliceSpatial(g, input, starts, ends, w.strides);
    return g.unsqueeze(g.fusedMatMul(rows, flat(met), { transB: true }), [0]); // [1, batch, M, C]
  });
  // One sum and one transposition for all places cost a third of those of every place by itself.
  return g.transpose(g.reduceSum(g.concat(parts, 0), [1], false), [1, 2, 0]); // [M, C, places]
}

/** Every index into the kernel, the last axis fastest. */
const placesOf = ({ kernel }: Windows): number[][] =>
  kernel.reduce<number[][]>((places, size) => places.flatMap((p) => upTo(Number(size)).map((i) => [...p, i])), [[]]);

/**
 * The convolution of X with dY as its weight, batch and channel axes swapped, strides and dilations exchanged; groups keep
 * their place among the channels. What a stride left over appears behind the kernel and is cut off.
 */
function bySwapping(g: Builder, { windows: w, group }: Convolution, x: Value, dY: Value): Value {
  const input = padded(g, w, x);
  const [batch = 1, channels = 1, ...sizes] = input.shape;
  const axes = spatialAxes(input);
  let swapped: Value;
  if (group === 1) swapped = swap(g, input);
  else {
    const inGroup = floorDivide(channels, group);
    const grouped = g.reshape(input, [batch, group, inGroup, ...sizes], input);
    const turned = g.transpose(grouped, [2, 1, 0, ...axes.map((a) => a + 1)]);
    swapped = g.reshape(turned, [inGroup, mulDims(batch, group), ...sizes], turned); // [C / group, group * batch, ...]
  }
  const attributes = { strides: w.dilations, dilations: w.strides, group };
  const made = g.op("Conv", [swapped, swap(g, dY)], attributes)[0] as Value; // [C / group, M, ...k]
  const zeros = axes.map(() => 0);
  return swap(g, w.strides.every((s) => s === 1) ? made : sliceSpatial(g, made, zeros, w.kernel));
}
