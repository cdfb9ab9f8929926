import type { Attribute, Model } from "../onnx/ir.ts";
import { attributeFields, functionFields, graphFields, modelFields, nodeFields, tensorFields } from "../onnx/schema.ts";
import { stringTensor, tensorFrom } from "../onnx/tensor.ts";
import { graph, model, node, value } from "../onnx/testing/models.ts";
import * as wire from "../onnx/testing/wire.ts";
import { encodeModel } from "../onnx/write.ts";

const ints = (value: readonly number[]): Attribute => ({ type: "ints", value });
const int = (value: number): Attribute => ({ type: "int", value });
const float32 = (dims: number[]) =>
  tensorFrom(
    "float32",
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i / 8),
  );
const int64 = (values: readonly number[], dims = [values.length]) => tensorFrom("int64", dims, [...values]);

/** Every kind of attribute, sub-graphs, metadata, texts, 4-bit and 16-bit numbers. */
function everyKind(): Model {
  const branch = (name: string): Attribute => ({
    type: "graph",
    value: graph({
      name,
      nodes: [node("Mul", ["h", "half"], ["b"])],
      outputs: [value("b", ["n"])],
      initializers: new Map([["half", tensorFrom("float32", [1], [0.5])]]),
    }),
  });
  return model(
    {
      nodes: [
        node("Add", ["x", "w"], ["h"], {}, { metadata: { scope: "fc" } }),
        node("If", ["c"], ["y"], { then_branch: branch("a"), else_branch: branch("b") }),
        node(
          "Op",
          ["y", ""],
          ["z"],
          {
            a: ints([1, -2]),
            b: { type: "floats", value: [0.5, -0, 1e30] },
            c: { type: "strings", value: ["s", Uint8Array.of(0xff, 0)] },
            d: { type: "tensor", value: stringTensor([2], ["text", ""]) },
            e: { type: "tensors", value: [tensorFrom("int4", [3], [1, -8, 7]), tensorFrom("float16", [1], [2])] },
            f: { type: "graphs", value: [] },
            g: { type: "float", value: 0.25 },
            h: { type: "int", value: 2n ** 62n },
            i: { type: "string", value: "é" },
          },
          { domain: "local" },
        ),
      ],
      inputs: [value("x", ["n"]), value("c", [], "bool")],
      outputs: [value("z", ["n"])],
      initializers: new Map([["w", float32([1])]]),
      values: new Map([["h", { type: "float32", shape: ["n"] }]]),
    },
    {
      metadata: new Map([["k", "v"]]),
      opsets: new Map([
        ["", 17],
        ["local", 1],
      ]),
    },
  );
}

/** An encoder layer in small: embedding, linear layers, a norm, and the shape arithmetic of an exporter. */
function smallEncoder(): Model {
  const shapeOf = (name: string, out: string) => node("Shape", [name], [out]);
  return model({
    nodes: [
      node("Gather", ["emb.weight", "ids"], ["e"]),
      node("LayerNormalization", ["e", "norm.weight", "norm.bias"], ["l"], { axis: int(-1) }),
      node("MatMul", ["l", "onnx::MatMul_7"], ["m"], {}, { name: "/layer.0/query/MatMul" }),
      node("Add", ["layer.0.query.bias", "m"], ["q"], {}, { name: "/layer.0/query/Add" }),
      shapeOf("ids", "s"),
      node("Gather", ["s", "zero"], ["batch"]),
      node("Unsqueeze", ["batch", "axis0"], ["batch1"]),
      node("Concat", ["batch1", "minus1", "two", "two"], ["target"], { axis: int(0) }),
      node("Reshape", ["q", "target"], ["r"]),
      node("Transpose", ["r"], ["t"], { perm: ints([0, 2, 1, 3]) }),
      node("Slice", ["t", "axis0", "one", "axis0"], ["sl"]),
      node("Softmax", ["sl"], ["p"], { axis: int(-1) }),
      node("ReduceMean", ["p"], ["mean"], { axes: ints([-1]), keepdims: int(0) }),
      node("Split", ["q", "halves"], ["q1", "q2"], { axis: int(-1) }),
      node("Gemm", ["flat", "fc.weight", "fc.bias"], ["g"], { transB: int(1) }),
      node("Flatten", ["q1"], ["flat0"]),
      node("Range", ["zero", "four", "onescalar"], ["range"]),
      node("Expand", ["onescalar", "target2"], ["expanded"]),
      node("ConstantOfShape", ["target2"], ["filled"], { value: { type: "tensor", value: int64([7]) } }),
      node("Constant", [], ["flat"], { value: { type: "tensor", value: float32([2, 4]) } }),
    ],
    inputs: [value("ids", ["batch", "sequence"], "int64")],
    outputs: [value("mean", ["batch", 2, "sequence"]), value("g", [2, 3]), value("q2", ["batch", "sequence", 2])],
    initializers: new Map([
      ["emb.weight", float32([5, 4])],
      ["norm.weight", float32([4])],
      ["norm.bias", float32([4])],
      ["onnx::MatMul_7", float32([4, 4])],
      ["layer.0.query.bias", float32([4])],
      ["fc.weight", float32([3, 4])],
      ["fc.bias", float32([3])],
      ["zero", int64([0], [])],
      ["four", int64([4], [])],
      ["onescalar", int64([1], [])],
      ["axis0", int64([0])],
      ["one", int64([1])],
      ["two", int64([2])],
      ["minus1", int64([-1])],
      ["halves", int64([2, 2])],
      ["target2", int64([2, 3])],
    ]),
  });
}

/** Shapes that are computed while the model runs, from symbols and from inputs of which only the length is known. */
function dynamicShapes(): Model {
  const mul = (from: string, to: string) => node("Mul", [from, from], [to]);
  return model({
    nodes: [
      node("Reshape", ["x", "target"], ["r"]),
      node("Expand", ["one", "target"], ["e"]),
      node("ConstantOfShape", ["target"], ["c"]),
      node("Shape", ["x"], ["s0"]),
      mul("s0", "s1"),
      mul("s1", "s2"),
      node("Add", ["s2", "s0"], ["s3"]),
      node("Div", ["s3", "s1"], ["s4"]),
      node("Concat", ["s3", "s4"], ["s5"], { axis: int(0) }),
      node("ReduceProd", ["s5"], ["total"], { keepdims: int(1) }),
      node("Expand", ["one", "total"], ["t"]),
      node("Concat", ["x", "z", "x"], ["xz"], { axis: int(0) }),
      node("Flatten", ["xz"], ["flat"], { axis: int(2) }),
      node("Unsqueeze", ["flat", "axes"], ["u"]),
      node("Squeeze", ["u"], ["sq"]),
      node("Transpose", ["sq"], ["tr"]),
      node("Sum", ["x", "x", "x", "x"], ["sum"]),
    ],
    inputs: [value("x", ["n", "m"]), value("z", ["k", "m"]), value("target", [3], "int64")],
    outputs: [value("r", ["a", "b", "c"]), value("sum", ["n", "m"])],
    initializers: new Map([
      ["one", float32([1])],
      ["axes", int64([0, 3])],
    ]),
  });
}

/** Convolutions, pooling, padding, resizing and the indexing operators. */
function smallVision(): Model {
  return model({
    nodes: [
      node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], { pads: ints([1, 1, 1, 1]), strides: ints([2, 2]) }),
      node("BatchNormalization", ["c", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["n"]),
      node("Relu", ["n"], ["r"]),
      node("MaxPool", ["r"], ["m"], { kernel_shape: ints([2, 2]) }),
      node("GlobalAveragePool", ["m"], ["a"]),
      node("Pad", ["a", "pads"], ["p"]),
      node("Tile", ["p", "repeats"], ["t"]),
      node("Einsum", ["a", "a"], ["e"], { equation: { type: "string", value: "nchw,nchw->nc" } }),
      node("TopK", ["e", "k"], ["values", "indices"]),
      node("Cast", ["indices"], ["f"], { to: int(1) }),
      node("Where", ["mask", "f", "values"], ["w"]),
      node("DepthToSpace", ["x4"], ["d"], { blocksize: int(2) }),
    ],
    inputs: [value("x", ["batch", 3, 8, 8]), value("mask", ["batch", 2], "bool"), value("x4", [1, 4, 2, 2])],
    outputs: [value("w", ["batch", 2]), value("t", ["batch", 4, 3, 3]), value("d", [1, 1, 4, 4])],
    initializers: new Map([
      ["conv.weight", float32([4, 3, 3, 3])],
      ["conv.bias", float32([4])],
      ["bn.weight", float32([4])],
      ["bn.bias", float32([4])],
      ["bn.mean", float32([4])],
      ["bn.var", float32([4])],
      ["pads", int64([0, 0, 1, 1, 0, 0, 1, 1])],
      ["repeats", int64([1, 1, 1, 1])],
      ["k", int64([2])],
    ]),
  });
}

const nodeContent = (op: string, inputs: string[], outputs: string[], ...more: wire.Piece[]): Uint8Array =>
  wire.message(
    ...inputs.map((name) => wire.text(nodeFields.input, name)),
    ...outputs.map((name) => wire.text(nodeFields.output, name)),
    wire.text(nodeFields.opType, op),
    ...more,
  );

/** Functions that call each other with attributes, external data, typed data, and value information without shapes. */
function functionsAndData(): Uint8Array {
  const f = functionFields;
  const local = wire.text(nodeFields.domain, "local");
  const reference = wire.inner(
    nodeFields.attribute,
    wire.text(attributeFields.name, "alpha"),
    wire.text(attributeFields.refAttrName, "slope"),
    wire.int(attributeFields.type, 1),
  );
  const slope = [
    wire.text(attributeFields.name, "slope"),
    wire.float(attributeFields.float, 2),
    wire.int(attributeFields.type, 1),
  ];
  const definition = (name: string, nodes: Uint8Array[]): wire.Piece =>
    wire.inner(
      modelFields.functions,
      wire.text(f.name, name),
      wire.text(f.domain, "local"),
      wire.text(f.input, "a"),
      wire.text(f.output, "out"),
      wire.inner(f.attributeDefault, ...slope),
      ...nodes.map((content) => wire.bytes(f.node, content)),
      wire.inner(f.opsetImport, wire.int(2, 17)),
    );
  return wire.modelBytes(
    [
      wire.nodePiece("outer", ["x"], ["h"], local, wire.text(nodeFields.name, "call")),
      wire.nodePiece("inner", ["h"], ["y"], local, wire.inner(nodeFields.attribute, ...slope)),
      wire.nodePiece("Add", ["y", "w"], ["z"]),
      wire.valuePiece(graphFields.input, "x", [null, 2]),
      wire.valuePiece(graphFields.output, "z"),
      wire.valuePiece(graphFields.valueInfo, "h", ["n", 2]),
      wire.initializer("w", "float32", [2], wire.external({ location: "w.bin", offset: "8", length: "8" })),
      wire.initializer(
        "i",
        "int32",
        [2],
        wire.packed(tensorFields.int32Data, (w) => w.int32(1).int32(-1)),
      ),
      wire.initializer(
        "u",
        "uint64",
        [2],
        wire.packed(tensorFields.uint64Data, (w) => w.uint64(1).uint64(2n ** 63n)),
      ),
      wire.initializer(
        "h16",
        "float16",
        [2],
        wire.packed(tensorFields.int32Data, (w) => w.int32(15360).int32(0)),
      ),
      wire.initializer("t", "string", [1], wire.text(tensorFields.stringData, "text")),
      wire.initializer("n4", "uint4", [3], wire.raw(Uint8Array.of(0x21, 0x03))),
    ],
    [
      definition("outer", [nodeContent("inner", ["a"], ["m"], local), nodeContent("Abs", ["m"], ["out"])]),
      definition("inner", [nodeContent("LeakyRelu", ["a"], ["out"], reference)]),
      wire.opset(17),
      wire.opset(1, "local"),
    ],
  );
}

/** Small files that between them use every part of the format. */
export const onnxSeeds = (): Uint8Array[] => [
  encodeModel(everyKind()),
  encodeModel(smallEncoder()),
  encodeModel(smallVision()),
  encodeModel(dynamicShapes()),
  functionsAndData(),
];
