import { tinyModel } from "../../adapters/testing/tiny-model.ts";
import { type Builder, createBuilder } from "../../graph/builder.ts";
import { toModel } from "../../graph/to-model.ts";
import { prepareModel } from "../../lowering/lower-model.ts";
import type { Model, Value } from "../../onnx/ir.ts";
import { tensorFrom } from "../../onnx/tensor.ts";
import type { Feeds } from "../../runtime/runtime.ts";
import { testRandom } from "../../testing/check-gradient.ts";
import type { GroundName } from "./ground-names.ts";

/** A small model on which every method is tried, or refused with a reason. Its output is `logits` [batch, 3]. */
export interface Ground {
  readonly name: GroundName;
  /** In the operators that adapters are injected into: what a new adapter must not change, bit for bit. */
  readonly model: Model;
  /** A batch of two. */
  readonly feeds: Feeds;
  /** Other batches. */
  batch(rows: number): Feeds;
}

type Draw = (dims: readonly number[], scale?: number, shift?: number) => number[];

const drawer = (seed: number): Draw => {
  const random = testRandom(seed);
  return (dims, scale = 0.6, shift = 0) =>
    Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => shift + scale * (random() * 2 - 1));
};

type Weight = (name: string, dims: readonly number[], scale?: number, shift?: number) => Value;

/** A graph whose weights are drawn from a seed, finished by a linear classifier over `width` features. */
function classifierOf(seed: number, width: number, body: (g: Builder, weight: Weight) => Value): Model {
  const draw = drawer(seed);
  const g = createBuilder(17);
  const weight: Weight = (name, dims, scale, shift) =>
    g.initializer(name, tensorFrom("float32", dims, draw(dims, scale, shift)));
  const features = body(g, weight);
  const head = [features, weight("classifier.weight", [3, width]), weight("classifier.bias", [3])];
  g.output(g.op("Gemm", head, { transB: 1 }, { name: "/classifier/Gemm", outputs: ["logits"] })[0] as Value, "logits");
  return prepareModel(toModel(g.finish({ name: "ground" }), 17));
}

/** A ground with one input of floats [rows, ...dims]. */
function floats(name: GroundName, model: Model, input: string, dims: readonly number[]): Ground {
  const batch = (rows: number): Feeds => {
    const shape = [rows, ...dims];
    return { [input]: { type: "float32", dims: shape, data: Float32Array.from(drawer(20 + rows)(shape, 1)) } };
  };
  return { name, model, feeds: batch(2), batch };
}

/** A ground with one input of five tokens a row, below 11. */
function ids(name: GroundName, model: Model): Ground {
  const batch = (rows: number): Feeds => {
    const data = BigInt64Array.from({ length: rows * 5 }, (_, i) => BigInt(1 + ((i + 3 * Math.floor(i / 10)) % 10)));
    return { input_ids: { type: "int64", dims: [rows, 5], data } };
  };
  return { name, model, feeds: batch(2), batch };
}

/** x [batch, 8] through two pairs of layers, 8 -> 12 as exporters fold it -> norm -> 8 with transB; no sequence axis anywhere. */
function mlp(): Ground {
  const model = classifierOf(11, 8, (g, weight) => {
    const op = (name: string, type: string, operands: Value[], attributes = {}): Value =>
      g.op(type, operands, attributes, { name: `/${name.replace(/\.(?!\d)/g, "/")}/${type}` })[0] as Value;
    let x = g.input("x", "float32", ["batch", 8]);
    for (const layer of ["layers.0", "layers.1"]) {
      const [up, norm, down] = [`${layer}.up`, `${layer}.norm`, `${layer}.down`];
      const product = op(up, "MatMul", [x, weight(`onnx::MatMul_${up}`, [8, 12])]);
      const wide = op(up, "Add", [product, weight(`${up}.bias`, [12])]);
      const factors = [weight(`${norm}.weight`, [12], 0.2, 1), weight(`${norm}.bias`, [12])];
      const scaled = g.tanh(op(norm, "LayerNormalization", [wide, ...factors], { axis: -1 }));
      x = g.tanh(
        op(down, "Gemm", [scaled, weight(`${down}.weight`, [8, 12]), weight(`${down}.bias`, [8])], { transB: 1 }),
      );
    }
    return x;
  });
  return floats("MLP", model, "x", [8]);
}

/** pixels [batch, 4, 4, 4] -> 2x2 kernels -> 1x1 kernels -> kernels of two along one axis -> mean. */
function convolution(): Ground {
  const model = classifierOf(12, 4, (g, weight) => {
    const conv = (x: Value, name: string, dims: readonly number[]): Value => {
      const kernel_shape = dims.slice(2);
      const operands = [x, weight(`${name}.weight`, dims), weight(`${name}.bias`, dims.slice(0, 1))];
      const node = `/${name.replaceAll(".", "/")}/Conv`;
      return g.tanh(g.op("Conv", operands, { kernel_shape }, { name: node })[0] as Value);
    };
    const image = conv(g.input("pixels", "float32", ["batch", 4, 4, 4]), "features.image", [8, 4, 2, 2]);
    const point = conv(image, "features.point", [8, 8, 1, 1]); // [batch, 8, 3, 3]
    const line = conv(g.reshape(point, ["batch", 8, 9]), "features.line", [4, 8, 2]); // [batch, 4, 8]
    return g.reduceMean(line, [2], false);
  });
  return floats("convolution", model, "pixels", [4, 4, 4]);
}

/** ids [batch, tokens] -> vectors of 8 -> their mean. */
function embedding(): Ground {
  const model = classifierOf(13, 8, (g, weight) => {
    const table = weight("embeddings.word_embeddings.weight", [11, 8]);
    const tokens = g.input("input_ids", "int64", ["batch", "tokens"]);
    const name = "/embeddings/word_embeddings/Gather";
    const rows = g.op("Gather", [table, tokens], { axis: 0 }, { name })[0] as Value;
    return g.tanh(g.reduceMean(rows, [1], false));
  });
  return ids("embedding", model);
}

/**
 * x [batch, 8] through all of four experts, whose parameters are [experts, in, out], then through the one that x asks for, out of three
 * whose parameters are [experts, out, in].
 */
function experts(): Ground {
  const model = classifierOf(14, 8, (g, weight) => {
    const x = g.input("x", "float32", ["batch", 8]);
    const wide = g.matMul(g.unsqueeze(x, [0]), weight("layers.0.experts.gate_up_proj", [4, 8, 12])); // [4, batch, 12]
    const [gate, up] = g.split(wide, [6, 6], 2) as [Value, Value];
    const all = g.matMul(g.mul(g.tanh(gate), up), weight("layers.0.experts.down_proj", [4, 6, 8]));
    const mean = g.unsqueeze(g.reduceMean(all, [0], false), [2]); // [batch, 8, 1]
    const asked = g.op("ArgMax", [g.slice(x, [0], [3], [1])], { axis: 1, keepdims: 0 })[0] as Value;
    const made = g.matMul(g.gather(weight("layers.1.experts.up_proj", [3, 10, 8]), asked), mean);
    const one = g.matMul(g.gather(weight("layers.1.experts.down_proj", [3, 8, 10]), asked), g.tanh(made));
    return g.squeeze(one, [2]);
  });
  return floats("experts", model, "x", [8]);
}

const makers: Readonly<Record<GroundName, () => Ground>> = {
  MLP: mlp,
  "transformer block": () => ids("transformer block", prepareModel(tinyModel())),
  convolution,
  embedding,
  experts,
};

/** The ground of a name, made anew. */
export const groundOf = (name: GroundName): Ground => makers[name]();
