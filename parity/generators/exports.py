"""Exports of the architectures of `architectures.py` with outputs, a loss and gradients of PyTorch beside them.

golden/exports/<name>/: model_<export>.onnx, golden.safetensors, golden.json. All exports of a model share the golden numbers.
"""

import copy
import inspect
import io
import warnings
from pathlib import Path

import onnx
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .architectures import Architecture, architectures, build, draw
from .common import GOLDEN, generator, relative_difference, save_json, save_tensors, versions
from .onnx_exports import without_paths

Tensors = dict[str, torch.Tensor]

EXPORTS = GOLDEN / "exports"
# The architectures whose exports are committed, and which exports.
SELECTION: dict[str, tuple[str, ...]] = {
    "vit": ("torchscript14", "torchscript17", "dynamo"),
    "clip": ("torchscript14", "torchscript17", "dynamo"),
    "resnet": ("torchscript14", "torchscript-unfolded", "dynamo"),
    "whisper-encoder": ("torchscript14", "torchscript17", "dynamo"),
    "t5-encoder": ("torchscript14", "torchscript17", "dynamo"),
    "t5": ("torchscript14", "torchscript17", "dynamo"),
    # Others, to show that nothing is made for the ones above.
    "albert": ("torchscript17", "dynamo"),  # one layer, called twice
    "modernbert": ("torchscript17", "dynamo"),  # rows of attention that are masked as a whole
    "segformer": ("torchscript17", "dynamo"),
    "wav2vec2": ("torchscript17",),
    "opt": ("torchscript17",),  # a module that is never called
    "torch-transformer": ("torchscript14", "torchscript17", "dynamo"),  # query, key and value in one parameter; a length written in
}
torch.backends.mha.set_fastpath_enabled(False)  # it reads the weights of frozen layers and would pass adapters by
LORA = dict(r=2, lora_alpha=4, lora_dropout=0.0)


def opset_of(export: str) -> int:
    return {"torchscript14": 14, "torchscript17": 17, "torchscript-unfolded": 17, "torchscript-static": 17}.get(export, 18)


def narrowed(model: torch.nn.Module, architecture: Architecture, names: list[str]) -> torch.nn.Module:
    """Lets `forward` take just these inputs and return a tuple of the wanted outputs, without another module around it: its
    name would be part of every path."""
    forward = model.forward

    def narrow(*values: torch.Tensor, **named: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inputs = dict(zip(names, values, strict=False)) | named
        result = forward(**inputs)
        return (result,) if torch.is_tensor(result) else tuple(result[name] for name in architecture.outputs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    narrow.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    model.forward = narrow
    return model


def axes_of(architecture: Architecture, name: str) -> dict[int, str]:
    return {0: "batch"} | ({1: "decoder_sequence" if name.startswith("decoder") else "sequence"} if name in architecture.tokens else {})


def export(name: str, kind: str) -> onnx.ModelProto:
    """One export. Kinds: torchscript14, torchscript17, torchscript-unfolded (BatchNorm kept), torchscript-static (no axis varies), dynamo."""
    try:
        return exported(name, kind, build(name))
    except Exception:  # noqa: BLE001 - the exporter refuses the fused attention of some models (T5), not the plain one
        model = build(name)
        for module in model.modules():  # encoder and decoder have configurations of their own
            if hasattr(module, "config"):
                module.config._attn_implementation = "eager"
        return exported(name, kind, model)


def exported(name: str, kind: str, model: torch.nn.Module) -> onnx.ModelProto:
    architecture = architectures()[name]
    example = draw(name, 5, 3)
    narrow = narrowed(model, architecture, list(example))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "dynamo":
            program = torch.onnx.export(
                narrow,
                tuple(example.values()),
                input_names=list(example),
                output_names=list(architecture.outputs),
                dynamic_shapes=tuple({axis: torch.export.Dim.AUTO for axis in axes_of(architecture, key)} for key in example),
                opset_version=opset_of(kind),
                external_data=False,
                verbose=False,
                dynamo=True,
            )
            proto = program.model_proto
        else:
            target = io.BytesIO()
            mode = torch.onnx.TrainingMode.PRESERVE if kind == "torchscript-unfolded" else torch.onnx.TrainingMode.EVAL
            axes = {key: axes_of(architecture, key) for key in example} | {output: {0: "batch"} for output in architecture.outputs}
            torch.onnx.export(
                narrow,
                tuple(example.values()),
                target,
                input_names=list(example),
                output_names=list(architecture.outputs),
                dynamic_axes=None if kind == "torchscript-static" else axes,
                opset_version=opset_of(kind),
                do_constant_folding=True,
                training=mode,
                dynamo=False,
            )
            proto = onnx.load_from_string(target.getvalue())
    without_paths(proto)
    for node in [*proto.graph.node, *(node for function in proto.functions for node in function.node)]:
        kept = [entry for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in proto.graph.value_info:
        del value.metadata_props[:]
    return proto


def linear_names(model: torch.nn.Module) -> list[str]:
    # Of this very class: nn.MultiheadAttention reads the weight of its output layer and never calls it.
    return [path for path, module in model.named_modules() if type(module) is torch.nn.Linear]


def with_lora(name: str) -> torch.nn.Module | None:
    """The model with a LoRA adapter on every linear layer, B not zero so that A has a gradient; null without linear layers."""
    model = build(name)
    names = [path for path in linear_names(model) if not path.endswith(architectures()[name].without_lora)]
    if not names:
        return None
    adapted = get_peft_model(model, LoraConfig(**LORA, target_modules=names))
    source = generator(architectures()[name].seed + 200)
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=source) * (0.15 if "lora_B" in key else 0.3))
    return adapted.eval()


def run(model: torch.nn.Module, architecture: Architecture, inputs: Tensors, cotangents: Tensors) -> tuple[torch.Tensor, Tensors]:
    """Outputs, and the loss: the sum over them of mean(output * cotangent) with fixed random numbers. It sees every number of
    every output and needs no labels, so it serves all architectures alike."""
    result = model(*inputs.values()) if isinstance(model, torch.nn.TransformerEncoder) else model(**inputs)
    outputs = {key: result if torch.is_tensor(result) else result[key] for key in architecture.outputs}
    loss = sum((outputs[key] * cotangents[key]).mean() for key in outputs if key in cotangents)
    return loss, outputs


def folded(model: torch.nn.Module) -> torch.nn.Module:
    """The model as exporters write it in evaluation mode: every BatchNorm behind a convolution in the convolution's weights."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, torch.nn.Identity())
    return model


def by_module(name: str, value: torch.Tensor) -> Tensors:
    """A parameter of a module under its name; what nn.MultiheadAttention packs as three, as if query, key and value were modules."""
    attention, packed, kind = name.partition("in_proj_")
    if not packed:
        return {name: value}
    return {f"{attention}in_proj.{part}.{kind}": rows for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True)}


def measure(name: str, inputs: Tensors, double: bool) -> Tensors:
    architecture = architectures()[name]

    def cast(model: torch.nn.Module) -> torch.nn.Module:
        return copy.deepcopy(model).double() if double else model

    given = {key: value.double() if double and value.is_floating_point() else value for key, value in inputs.items()}
    plain = cast(build(name))
    with torch.no_grad():
        _, outputs = run(plain, architecture, given, {})
    source = generator(architecture.seed + 300)
    cotangents = {key: torch.randn(value.shape, generator=source) for key, value in outputs.items()}
    mask = inputs.get("attention_mask")
    for key, value in cotangents.items():
        # What a model puts out for padding means nothing, and exporters change it: no loss looks at it.
        if mask is not None and "decoder_input_ids" not in inputs and value.ndim == 3 and value.shape[:2] == mask.shape:
            cotangents[key] = value * mask.unsqueeze(-1)
    if double:
        cotangents = {key: value.double() for key, value in cotangents.items()}
    tensors = {f"cotangent.{key}": value for key, value in cotangents.items()} | {f"output.{key}": value for key, value in outputs.items()}

    def gradients(model: torch.nn.Module, wanted: dict[str, torch.nn.Parameter], group: str) -> Tensors:
        for parameter in model.parameters():
            parameter.requires_grad_(any(parameter is other for other in wanted.values()))
        loss, found = run(model, architecture, given, cotangents)
        values = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
        found = {part: rows for key, value in zip(wanted, values, strict=True) for part, rows in by_module(key, value).items()}
        return {f"{group}.loss": loss.detach().reshape(1)} | {f"{group}.grad.{key}": value for key, value in found.items()}

    adapted = with_lora(name)
    if adapted is not None:
        adapted = cast(adapted)
        adapter = {key.replace(".default", ""): value for key, value in adapted.named_parameters() if "lora_" in key}
        tensors |= {f"lora.adapter.{key}": value for key, value in adapter.items()}
        tensors |= gradients(adapted, adapter, "lora")
    if architecture.full or adapted is None:
        tensors |= gradients(plain, dict(plain.named_parameters()), "full")
        other = folded(plain)
        tensors |= gradients(other, dict(other.named_parameters()), "folded")
    return tensors


def golden(name: str, folder: Path) -> None:
    """Writes golden.safetensors and golden.json of one architecture."""
    inputs = draw(name, architectures()[name].seed + 100, 4, architectures()[name].length + 2 if architectures()[name].tokens else None)
    found, exact = measure(name, inputs, double=False), measure(name, inputs, double=True)
    noise = {
        group: relative_difference(
            {key: value for key, value in found.items() if key.startswith(f"{group}.grad.")},
            {key: value for key, value in exact.items() if key.startswith(f"{group}.grad.")},
        )
        for group in sorted({key.split(".grad.")[0] for key in found if ".grad." in key})
    }
    save_tensors(folder / "golden.safetensors", found | {f"input.{key}": value for key, value in inputs.items()})
    save_json(
        folder / "golden.json",
        {
            "class": type(build(name)).__name__,
            "loss_function": "sum over the outputs of mean(output * cotangent)",
            "lora": LORA,
            "relative_difference_float32_to_float64": noise,
            "versions": versions(),
        },
    )


def make() -> None:
    for name, kinds in SELECTION.items():
        folder = EXPORTS / name
        golden(name, folder)
        for kind in kinds:
            model = export(name, kind)
            onnx.checker.check_model(model, full_check=True)
            path = folder / f"model_{kind}.onnx"
            path.write_bytes(model.SerializeToString(deterministic=True))
            print(f"  exports/{name}/{path.name}  {len(model.graph.node)} nodes, {path.stat().st_size:,} bytes", flush=True)
