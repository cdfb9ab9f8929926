import { intAttribute } from "../onnx/infer/context.ts";
import type { Value } from "../onnx/ir.ts";
import { type Expansion, type ExpansionContext, refuse, required } from "./expansion.ts";
import { range, reshapeTo } from "./heads.ts";

/** T5's buckets of distances: one for each of the near ones, then ranges that grow with the logarithm up to max_distance. */
function bucketsOf(c: ExpansionContext, distance: Value, count: number): Value {
  const { g, node } = c;
  const isBoth = intAttribute(node, "is_bidirectional", 0) !== 0;
  const buckets = isBoth ? Math.floor(count / 2) : count;
  const exact = Math.floor(buckets / 2);
  const most = intAttribute(node, "max_distance", 128);
  // distance = key - query; only keys behind count when the bias looks one way.
  const ahead = g.op("Max", [distance, g.constant("int64", 0)])[0] as Value;
  const behind = g.sub(ahead, distance);
  const far = isBoth ? g.add(ahead, behind) : behind;
  const ratio = g.div(g.cast(g.op("Max", [far, g.constant("int64", 1)])[0] as Value, "float32"), exact);
  const grown = g.mul(g.div(g.log(ratio), Math.log(most / exact)), buckets - exact);
  const large = g.op("Min", [g.add(g.cast(grown, "int64"), exact), g.constant("int64", buckets - 1)])[0] as Value;
  const isNear = g.less(far, exact);
  const bucket = g.op("Where", [isNear, far, large])[0] as Value;
  return isBoth ? g.add(bucket, g.mul(g.cast(g.greater(distance, 0), "int64"), buckets)) : bucket;
}

/** Biases of scores by the distance of query and key. */
export const relativePosition = {
  /** Inputs: table [buckets, heads], number of queries, number of keys. Output [1, heads, queries, keys]. */
  "com.microsoft::RelativePositionBias": (c) => {
    const { g } = c;
    const [table, queries, keys] = [required(c, 0), required(c, 1), required(c, 2)];
    const [count] = table.shape;
    if (typeof count !== "number") return refuse(c, "the number of buckets is not known");
    const upTo = (size: Value): Value => range(g, g.constant("int64", 0), reshapeTo(g, g.cast(size, "int64"), []));
    const distance = g.sub(g.unsqueeze(upTo(keys), [0]), g.unsqueeze(upTo(queries), [1]));
    const rows = g.gather(table, bucketsOf(c, distance, count));
    return [g.unsqueeze(g.transpose(rows, [2, 0, 1]), [0])];
  },
} satisfies Record<string, Expansion>;
