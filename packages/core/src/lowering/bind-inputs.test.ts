import { describe, expect, test } from "vitest";
import { branchModels } from "../adapters/branch-models.ts";
import { graphAttribute } from "../graph/attributes.ts";
import { toModel } from "../graph/to-model.ts";
import { decodeModel } from "../onnx/decode.ts";
import type { Graph, Model, Node, Value, ValueType } from "../onnx/ir.ts";
import { tensorFrom } from "../onnx/tensor.ts";
import { encodeModel } from "../onnx/write.ts";
import { onnxruntimeNode } from "../runtime/onnxruntime-node.ts";
import { bindInputs } from "./bind-inputs.ts";
import { branchChoice, branchChoices, chooseBranches, undecidedBranches } from "./choose-branches.ts";
import { prepareModel } from "./lower-model.ts";

const node = (op: string, inputs: string[], outputs: string[], attributes: Node["attributes"] = {}): Node => ({
  ...{ name: `${op}/${outputs[0]}`, op, domain: "", inputs, outputs, attributes, metadata: {} },
});
const value = (name: string, type: ValueType["type"], shape: ValueType["shape"]): Value => ({ name, type, shape });
const x = value("x", "float32", ["batch", 2]);
const number = (v: number) => tensorFrom("float32", [], [v]);

const graph = (parts: Partial<Graph>): Graph => ({
  ...{ name: "g", nodes: [], inputs: [], outputs: [], initializers: new Map(), values: new Map() },
  ...parts,
});

/** A branch that shows `output`. */
const branch = (output: string, nodes: Node[], constants: [string, number][] = []): Node["attributes"][string] =>
  graphAttribute(
    graph({
      nodes,
      outputs: [{ ...x, name: output }],
      initializers: new Map(constants.map(([name, v]) => [name, number(v)])),
    }),
  );

const ifNode = (condition: string, output: string, yes: Node["attributes"][string], no: Node["attributes"][string]) =>
  node("If", [condition], [output], { then_branch: yes, else_branch: no });

/** A model of these nodes, with x and further inputs, written and read once. */
async function modelOf(nodes: Node[], inputs: Value[], constants: [string, number][] = []): Promise<Model> {
  const initializers = new Map(constants.map(([name, v]) => [name, number(v)]));
  const whole = graph({ nodes, inputs: [x, ...inputs], outputs: [{ ...x, name: "y" }], initializers });
  return decodeModel(encodeModel(toModel(whole, 17)));
}

async function run(model: Model, truths: Readonly<Record<string, boolean>>): Promise<number[]> {
  const session = await onnxruntimeNode.open(encodeModel(model), { threads: 1 });
  const bools = session.inputNames.flatMap((name) => {
    const shape = model.graph.inputs.find((v) => v.name === name)?.shape ?? [];
    return name === "x"
      ? []
      : [[name, { type: "bool", dims: shape.map(() => 1), data: Uint8Array.of(truths[name] ? 1 : 0) }] as const];
  });
  const { y } = await session.run({
    x: { type: "float32", dims: [1, 2], data: Float32Array.from([3, -1]) },
    ...Object.fromEntries(bools),
  });
  await session.close();
  return Array.from(y?.data as Float32Array);
}

/** Runs the file for every value of its inputs, and the models in which those are bound. */
async function agree(model: Model, names: readonly string[]): Promise<void> {
  for (let mask = 0; mask < 2 ** names.length; mask++) {
    const truths = Object.fromEntries(names.map((name, i) => [name, (mask >> i) % 2 === 1]));
    const bound = bindInputs(model, truths);
    expect(bound.graph.nodes.map((n) => n.op)).not.toContain("If");
    expect(bound.graph.inputs.map((v) => v.name)).toEqual(["x"]);
    expect(await run(bound, {}), JSON.stringify(truths)).toEqual(await run(model, truths));
  }
}

const c = value("c", "bool", [1]);

describe("bindInputs", () => {
  test("values of both branches may have one name, and that of a value elsewhere", async () => {
    const yes = branch("r", [node("Mul", ["x", "k"], ["t"]), node("Add", ["t", "one"], ["r"])], [["k", 2]]);
    const no = branch("r", [node("Mul", ["x", "k"], ["t"]), node("Sub", ["t", "one"], ["r"])], [["k", 5]]);
    const nodes = [
      ifNode("c", "first", yes, no),
      node("Add", ["first", "first"], ["twice"]),
      // A second If, whose values are called as those of the first.
      ifNode(
        "c",
        "y",
        branch("r", [node("Mul", ["twice", "k"], ["r"])], [["k", 7]]),
        branch("r", [node("Neg", ["twice"], ["r"])]),
      ),
    ];
    await agree(await modelOf(nodes, [c], [["one", 1]]), ["c"]);
  });

  test("what a branch shows may be a value around it", async () => {
    // ONNX Runtime itself wants an Identity there.
    const model = await modelOf([node("Neg", ["x"], ["n"]), ifNode("c", "y", branch("n", []), branch("x", []))], [c]);
    expect(await run(bindInputs(model, { c: true }), {})).toEqual([-3, 1]);
    expect(await run(bindInputs(model, { c: false }), {})).toEqual([3, -1]);
  });

  test("conditions pass through Not, Squeeze and the like; an If inside an If", async () => {
    const inner = ifNode("d", "r", branch("p", [node("Exp", ["x"], ["p"])]), branch("p", [node("Abs", ["x"], ["p"])]));
    const nodes = [
      node("Squeeze", ["c"], ["c0"]),
      node("Not", ["c0"], ["not_c"]),
      ifNode("not_c", "y", branch("r", [inner]), branch("q", [node("Neg", ["x"], ["q"])])),
    ];
    await agree(await modelOf(nodes, [c, value("d", "bool", [])]), ["c", "d"]);
  });

  test("an input that is read elsewhere too becomes a constant", async () => {
    const nodes = [
      ifNode("c", "t", branch("r", [node("Exp", ["x"], ["r"])]), branch("r", [node("Neg", ["x"], ["r"])])),
      node("Where", ["c", "t", "x"], ["y"]),
    ];
    await agree(await modelOf(nodes, [c]), ["c"]);
  });

  test("a branch with a constant condition is taken without being asked", async () => {
    const model = await modelOf(
      [
        node("Constant", [], ["on"], { value: { type: "tensor", value: tensorFrom("bool", [], [1]) } }),
        ifNode("on", "y", branch("r", [node("Exp", ["x"], ["r"])]), branch("r", [node("Neg", ["x"], ["r"])])),
      ],
      [],
    );
    expect(prepareModel(model).graph.nodes.map((n) => n.op)).toEqual(["Exp"]);
  });

  test("a model without branches stays the object that it is", async () => {
    const model = await modelOf([node("Exp", ["x"], ["y"])], []);
    expect(bindInputs(model, {})).toBe(model);
    expect(chooseBranches(model)).toBe(model);
  });
});

describe("the branch that is trained", () => {
  const past = value("past_key", "float32", ["batch", 1, "past_length", 2]);
  const sum = node("ReduceSum", ["past_key"], ["s"], { keepdims: { type: "int", value: 0 } });
  const withCache = branch("r", [sum, node("Add", ["x", "s"], ["r"])]);
  const without = branch("r", [node("Neg", ["x"], ["r"])]);

  test.each([
    { yes: withCache, no: without, value: false },
    { yes: without, no: withCache, value: true },
  ])("is the one that reads no cache: c = $value", async ({ yes, no, value: expected }) => {
    const model = await modelOf([ifNode("c", "y", yes, no)], [c, past]);
    expect(branchChoice(model)).toMatchObject({ input: "c", value: expected });
    const prepared = prepareModel(model);
    expect(prepared.graph.nodes.map((n) => n.op)).toEqual(["Neg"]);
    expect(prepared.graph.inputs.map((v) => v.name)).toEqual(["x"]);
  });

  test("two inputs choose one after the other", async () => {
    const nodes = [
      ifNode("c", "first", withCache, without),
      node("Not", ["d"], ["not_d"]),
      ifNode(
        "not_d",
        "y",
        branch("r", [sum, node("Add", ["first", "s"], ["r"])]),
        branch("r", [node("Exp", ["first"], ["r"])]),
      ),
    ];
    const model = await modelOf(nodes, [c, value("d", "bool", []), past]);
    expect(branchChoices(model)).toMatchObject([
      { input: "c", value: false },
      { input: "d", value: true },
    ]);
    expect(chooseBranches(model).graph.nodes.map((n) => n.op)).toEqual(["Neg", "Exp"]);
  });

  test("many choices take no more time than their number, and are not merged", async () => {
    const count = 300;
    const names = Array.from({ length: count }, (_, i) => `c${i}`);
    const nodes = names.map((name, i) =>
      ifNode(
        name,
        i === count - 1 ? "y" : `v${i}`,
        branch("r", [sum, node("Add", ["x", "s"], ["r"])]),
        branch("r", [node("Neg", [i === 0 ? "x" : `v${i - 1}`], ["r"])]),
      ),
    );
    const model = await modelOf(nodes, [...names.map((name) => value(name, "bool", [])), past]);
    expect(branchChoices(model)).toHaveLength(count);
    expect(() => branchModels(model)).toThrow(/More than 3 inputs choose branches/);
  });

  test("is not known where caches do not tell", async () => {
    const other = branch("r", [node("Exp", ["x"], ["r"])]);
    const model = await modelOf([ifNode("c", "y", other, without)], [c]);
    expect(branchChoice(model)).toBeNull();
    expect(undecidedBranches(model)).toMatchObject([{ input: "c" }]);
    expect(prepareModel(model).graph.nodes.map((n) => n.op)).toEqual(["If"]);
  });
});
