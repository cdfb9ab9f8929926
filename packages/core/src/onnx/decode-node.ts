import { WireType } from "@bufbuild/protobuf/wire";
import { decodeAttribute } from "./decode-attribute.ts";
import { type DecodeContext, normalDomain } from "./decode-context.ts";
import { readEntry, readText } from "./decode-tensor.ts";
import type { Node } from "./ir.ts";
import { checkLimit } from "./limits.ts";
import { nodeFields } from "./schema.ts";
import { expectWire, type Field, fieldsOf } from "./source.ts";

/** False, and a problem, for the one key that would change the record itself. */
function checkKey(key: string, what: string, context: DecodeContext): boolean {
  if (key !== "__proto__") return true;
  context.problems.push({ code: "ONNX_INVALID", message: `"${key}" is no name for ${what}.` });
  return false;
}

function setKey<T>(record: Record<string, T>, key: string, value: T, what: string, context: DecodeContext): void {
  if (!checkKey(key, what, context)) return;
  if (Object.hasOwn(record, key))
    context.problems.push({ code: "ONNX_INVALID", message: `${what} "${key}" occurs twice.` });
  else record[key] = value;
}

/**
 * A NodeProto.
 * @throws PeftError with the codes of `decodeModel`
 */
export function decodeNode(context: DecodeContext, field: Field, path: string, depth: number): Node {
  expectWire(field, WireType.LengthDelimited, path);
  checkLimit("nodes", ++context.nodeCount, context.limits.maxNodes, path);
  const node: Node = { name: "", op: "", domain: "", inputs: [], outputs: [], attributes: {}, metadata: {} };
  const references = new Map<string, string>();
  let attributes = 0;
  for (const inner of fieldsOf(context.source, field.start, field.end, path)) {
    switch (inner.number) {
      case nodeFields.input:
        node.inputs.push(readText(context, inner, `${path}.input`));
        break;
      case nodeFields.output:
        node.outputs.push(readText(context, inner, `${path}.output`));
        break;
      case nodeFields.name:
        node.name = readText(context, inner, `${path}.name`);
        break;
      case nodeFields.opType:
        node.op = readText(context, inner, `${path}.op_type`);
        break;
      case nodeFields.domain:
        node.domain = normalDomain(readText(context, inner, `${path}.domain`));
        break;
      case nodeFields.overload:
        context.overloads.set(node, readText(context, inner, `${path}.overload`));
        break;
      case nodeFields.attribute: {
        const found = decodeAttribute(context, inner, `${path}.attribute[${attributes++}]`, depth);
        if (found.reference === null) {
          setKey(node.attributes, found.name, found.attribute, `attribute of node ${path}`, context);
        } else if (checkKey(found.name, `attribute of node ${path}`, context)) {
          references.set(found.name, found.reference);
        }
        break;
      }
      case nodeFields.metadata: {
        expectWire(inner, WireType.LengthDelimited, path);
        const [key, value] = readEntry(context, inner, `${path}.metadata_props`);
        setKey(node.metadata, key, value, `metadata of node ${path}`, context);
        break;
      }
    }
  }
  if (references.size > 0) context.references.set(node, references);
  if (node.op === "")
    context.problems.push({ code: "ONNX_INVALID", message: `node ${path} "${node.name}" has no op_type.` });
  return node;
}
