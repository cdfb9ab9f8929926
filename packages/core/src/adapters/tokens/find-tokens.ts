import { symbolFrom } from "../../onnx/dims.ts";
import { isFloating } from "../../onnx/element-type.ts";
import type { Model, Value } from "../../onnx/ir.ts";
import { elementCount, toNumbers } from "../../onnx/tensor.ts";
import type { Site, TokenInput } from "../site.ts";

const asShape = new Set(["Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten"]);

/** The graph input behind a value that is nothing but that input in another shape or type. */
function inputBehind(model: Model, name: string): Value | null {
  let source = name;
  for (;;) {
    const input = model.graph.inputs.find((v) => v.name === source);
    if (input) return input;
    const node = model.graph.nodes.find((n) => n.outputs[0] === source);
    if (node?.domain !== "" || !asShape.has(node.op)) return null;
    source = node.inputs[0] ?? "";
  }
}

/** What an input says of a token, from the names that exporters give the inputs of transformers. */
function fillOf(name: string): TokenInput["fill"] | null {
  if (/position/i.test(name)) return "position";
  if (/type|segment/i.test(name)) return "zero";
  return /mask/i.test(name) ? "one" : null;
}

/** A token that nothing in the model compares with (RoBERTa counts positions by "is not padding"). */
function neutralToken(model: Model, ids: string): number {
  const taken = new Set<number>();
  const { initializers, nodes } = model.graph;
  for (const node of nodes) {
    if (node.op !== "Equal" || !node.inputs.some((name) => inputBehind(model, name)?.name === ids)) continue;
    for (const name of node.inputs) {
      const constant = nodes.find((n) => n.op === "Constant" && n.outputs[0] === name)?.attributes["value"];
      const tensor = initializers.get(name) ?? (constant?.type === "tensor" ? constant.value : undefined);
      if (tensor && elementCount(tensor.dims) === 1) taken.add(toNumbers(tensor)[0] ?? 0);
    }
  }
  let token = 0;
  while (taken.has(token)) token++;
  return token;
}

/** The inputs that have an entry for every token, or why the sequence cannot be made longer. */
function sequenceOf(model: Model, ids: Value): Pick<Site, "sequence" | "refusal"> {
  const [, length = 0] = ids.shape;
  if (typeof length === "number") return { refusal: `its file is made for sequences of ${length} tokens only` };
  const inputs: TokenInput[] = [{ name: ids.name, fill: "token", token: neutralToken(model, ids.name) }];
  for (const input of model.graph.inputs) {
    if (input.name === ids.name || model.graph.initializers.has(input.name)) continue;
    const fill =
      input.shape.length === 2 && !(isFloating(input.type) && fillOf(input.name) !== "one") ? fillOf(input.name) : null;
    if (fill !== null && typeof input.shape[1] === "string") inputs.push({ name: input.name, fill });
    else if (input.shape.includes(length)) {
      return { refusal: `what its input "${input.name}" should say of virtual tokens is not known` };
    }
  }
  return { sequence: { length: symbolFrom(length), inputs } };
}

/**
 * The place where the tokens of a sequence have become vectors: the embedding that is read by an input of ids [batch, tokens].
 * Empty where there is none. Weights are the embedding's.
 * @param model in the form of `prepareModel`.
 * @param modules its sites.
 */
export function findTokens(model: Model, modules: readonly Site[]): Site[] {
  const candidates = modules.flatMap((site) => {
    if (site.kind !== "embedding") return [];
    const inputs = site.uses.map((use) => inputBehind(model, use.input));
    const [ids] = inputs;
    if (ids?.shape.length !== 2 || fillOf(ids.name) !== null) return [];
    return [{ site, ids, isSingle: site.uses.length === 1 }];
  });
  const [found] = candidates.sort((a, b) => b.site.inFeatures - a.site.inFeatures);
  if (!found) return [];
  const several = !found.isSingle || candidates.some(({ ids }) => ids.name !== found.ids.name);
  const sequence = several
    ? { refusal: "it reads more than one sequence: encoder-decoder models are not supported" }
    : sequenceOf(model, found.ids);
  return [{ ...found.site, kind: "tokens", ...sequence }];
}
