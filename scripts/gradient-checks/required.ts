/** Operators that the engine promises to know, by ONNX's names; those of ONNX Runtime's domain have it before "::". */
export const requiredOperators: readonly string[] = `
Add Sub Mul Div Pow Neg Abs Sqrt Reciprocal Exp Log Sin Cos Tan Sinh Cosh Tanh Atan Sigmoid Erf Relu LeakyRelu PRelu Elu
Celu Selu Softplus Softsign HardSigmoid HardSwish Mish Gelu Swish com.microsoft::QuickGelu ThresholdedRelu Clip Min Max Sum
Mean Where Sign Floor Ceil Round Mod Not And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual IsNaN IsInf
MatMul Gemm Einsum
ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ArgMax
ArgMin TopK CumSum
Softmax LogSoftmax Hardmax LayerNormalization RMSNormalization SimplifiedLayerNormalization BatchNormalization
InstanceNormalization GroupNormalization LpNormalization LRN
Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool Resize GridSample
Reshape Transpose Flatten Squeeze Unsqueeze Expand Tile Concat Split Slice Pad Gather GatherElements GatherND
ScatterElements ScatterND OneHot Trilu DepthToSpace SpaceToDepth Identity Cast CastLike Shape Size ConstantOfShape Range
EyeLike NonZero Dropout
NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss Attention RotaryEmbedding LSTM GRU DequantizeLinear QuantizeLinear If
Loop Scan
`
  .trim()
  .split(/\s+/);
