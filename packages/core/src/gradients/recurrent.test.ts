import { describe, expect, test } from "vitest";
import { differentiate } from "../autodiff/differentiate.ts";
import type { AttributeInput } from "../graph/attributes.ts";
import { float } from "../graph/attributes.ts";
import { type Builder, createBuilder } from "../graph/builder.ts";
import type { Attribute, Value } from "../onnx/ir.ts";
import { type CheckedInput, checkGradient } from "../testing/check-gradient.ts";
import { checkShapes } from "../testing/check-shapes.ts";

const gates = { LSTM: 4, GRU: 3, RNN: 1 } as const;
type Layer = keyof typeof gates;

interface Options {
  readonly attributes?: Record<string, AttributeInput>;
  readonly directions?: 1 | 2;
  readonly lengths?: readonly number[];
  readonly peepholes?: boolean;
  readonly plain?: boolean;
  readonly opset?: number;
  readonly frozen?: readonly number[];
  readonly outputs?: readonly number[];
}

const [time, batch, size, hidden] = [4, 2, 3, 2];

const words = (...list: string[]): Attribute => ({ type: "strings", value: list });

async function check(op: Layer, options: Options): Promise<void> {
  const { directions: d = 1, attributes = {}, lengths } = options;
  const rows = gates[op] * hidden;
  const given: (CheckedInput | null)[] = [
    { dims: [time, batch, size] },
    { dims: [d, rows, size] },
    { dims: [d, rows, hidden] },
    options.plain ? null : { dims: [d, 2 * rows] },
    lengths ? { dims: [batch], type: "int32", data: lengths } : null,
    options.plain ? null : { dims: [d, batch, hidden] },
    options.plain || op !== "LSTM" ? null : { dims: [d, batch, hidden] },
    options.peepholes ? { dims: [d, 3 * hidden] } : null,
  ];
  const slots = given.flatMap((v, i) => (v ? [i] : []));
  const f = (g: Builder, values: Value[]): Value[] => {
    const inputs = given.map((v, i) => (v ? values[slots.indexOf(i)]! : null));
    const outputs = g.op(op, inputs, { hidden_size: hidden, ...attributes }, { count: op === "LSTM" ? 3 : 2 });
    return (options.outputs ?? [...outputs.keys()]).map((i) => outputs[i]!);
  };
  const inputs = slots.map((i) => ({ ...given[i]!, frozen: options.frozen?.includes(i) ?? false }));
  await checkGradient(f, inputs, { opset: options.opset ?? 21, symbolic: [] });
  // A hidden size is never symbolic: weights are constants. Time and batch are.
  const fixed = inputs.map((v, i) => ([1, 2, 3, 7].includes(slots[i]!) ? { ...v, constant: true } : v));
  await checkGradient(f, fixed, { opset: options.opset ?? 21, symbolic: ["shared"] });
}

describe.each(["LSTM", "GRU", "RNN"] as const)("%s", (op) => {
  test("forward, reverse, bidirectional, with initial states", async () => {
    await check(op, {});
    await check(op, { attributes: { direction: "reverse" } });
    await check(op, { attributes: { direction: "bidirectional" }, directions: 2, frozen: [2] });
  });

  test("without bias and states, each output alone, old opset", async () => {
    await check(op, { plain: true, opset: 11 });
    await check(op, { plain: true, outputs: [1], opset: 14, frozen: [0] });
  });

  test("sequences of different lengths", async () => {
    await check(op, { lengths: [4, 2] });
    await check(op, { lengths: [1, 4], attributes: { direction: "bidirectional" }, directions: 2 });
  });

  test("shapes", async () => {
    const build = (g: Builder, v: Value[]): Value[] =>
      g.op(op, v, { hidden_size: hidden, direction: "bidirectional" }, { count: op === "LSTM" ? 3 : 2 });
    await checkShapes(
      build,
      [
        [time, batch, size],
        [2, gates[op] * hidden, size],
        [2, gates[op] * hidden, hidden],
      ].map((dims) => ({ dims, data: Array.from({ length: dims.reduce((a, b) => a * b) }, () => 0.1) })),
    );
  });

  test("what is refused says so", () => {
    const refused = (attributes: Record<string, AttributeInput>): void => {
      const g = createBuilder();
      const [x, w, r] = [
        [time, batch, size],
        [1, gates[op] * hidden, size],
        [1, gates[op] * hidden, hidden],
      ].map((dims, i) => g.input(`x${i}`, "float32", dims));
      const [y] = g.op(op, [x!, w!, r!], { hidden_size: hidden, ...attributes });
      differentiate(g, [{ value: g.reduceSum(y!, [0, 1, 2, 3], false) }], [x!]);
    };
    expect(() => refused({ layout: 1 })).toThrow(expect.objectContaining({ code: "UNSUPPORTED_ATTRIBUTE" }));
    const names = words(...Array.from({ length: 3 }, () => "ScaledTanh"));
    expect(() => refused({ activations: names })).toThrow(/ScaledTanh/);
  });
});

test("LSTM with peepholes, other activations, a limit, and coupled gates", async () => {
  await check("LSTM", { peepholes: true });
  await check("LSTM", { attributes: { activations: words("Sigmoid", "Softsign", "Tanh") } });
  await check("LSTM", { attributes: { input_forget: 1 } });
  await check("LSTM", { attributes: { clip: float(0.45) }, plain: true });
});

test("GRU with the linear part before the reset gate", async () => {
  await check("GRU", { attributes: { linear_before_reset: 1 } });
  await check("GRU", {
    attributes: { linear_before_reset: 1, direction: "bidirectional" },
    directions: 2,
    lengths: [3, 4],
  });
  await check("GRU", { attributes: { linear_before_reset: 1 }, plain: true });
});
