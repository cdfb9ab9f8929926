"""ONNX exports of the tiny models as users have them: golden/models/<name>/onnx/*.onnx."""

import inspect
import io
import warnings

import numpy
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from .common import MODELS
from .inputs import make_inputs, model_inputs
from .models import TINY, load

AXES = {0: "batch", 1: "sequence"}


def outputs_of(name: str) -> str:
    return "last_hidden_state" if TINY[name].task == "embedding" else "logits"


def prepared(name: str, attention: str) -> torch.nn.Module:
    model = load(name, attn_implementation=attention)
    if TINY[name].task == "embedding":
        model.pooler = None  # as in exports of sentence-embedding models: one output
    return model


def narrowed(model: torch.nn.Module, names: list[str]) -> torch.nn.Module:
    """Lets `forward` take just these arguments and return one tensor: the TorchScript exporter passes all the other
    arguments too, as positional None, which clashes with those that the decorators of some models add by keyword."""
    forward = model.forward

    def narrow(*values: torch.Tensor) -> torch.Tensor:
        return forward(**dict(zip(names, values, strict=True)))[0]

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    narrow.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    model.forward = narrow
    return model


def torchscript(name: str, opset: int, attention: str) -> onnx.ModelProto:
    example = model_inputs(name, make_inputs(name, 5, (6, 4)))
    output = outputs_of(name)
    keeps_tokens = TINY[name].task != "sequence"
    target = io.BytesIO()
    torch.onnx.export(
        narrowed(prepared(name, attention), list(example)),
        tuple(example.values()),
        target,
        input_names=list(example),
        output_names=[output],
        dynamic_axes={key: AXES for key in example} | {output: AXES if keeps_tokens else {0: "batch"}},
        opset_version=opset,
        do_constant_folding=True,
        dynamo=False,
    )
    return onnx.load_from_string(target.getvalue())


def dynamo(name: str, opset: int, attention: str) -> onnx.ModelProto:
    example = model_inputs(name, make_inputs(name, 5, (6, 4)))
    program = torch.onnx.export(
        prepared(name, attention),
        (),
        kwargs=example,
        input_names=list(example),
        output_names=[outputs_of(name)],
        dynamic_shapes={key: {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=48)} for key in example},
        opset_version=opset,
        external_data=False,
        verbose=False,
        dynamo=True,
    )
    return program.model_proto


def without_paths(model: onnx.ModelProto) -> None:
    """Removes stack traces, which name files of the machine; scopes and class names, which real exports carry, stay."""
    def clean(nodes: object) -> None:
        for node in nodes:  # type: ignore[attr-defined]
            node.doc_string = ""
            kept = [entry for entry in node.metadata_props if entry.key != "pkg.torch.onnx.stack_trace"]
            del node.metadata_props[:]
            node.metadata_props.extend(kept)

    clean(model.graph.node)
    for function in model.functions:
        clean(function.node)
    model.producer_version = model.producer_version.split("+")[0]  # the same for the CPU and the CUDA build
    # The exported program's printout: it carries stack traces as well, and is many times larger than the graph.
    kept = [entry for entry in model.graph.metadata_props if not entry.key.startswith("pkg.torch.export.ExportedProgram")]
    del model.graph.metadata_props[:]
    model.graph.metadata_props.extend(kept)


def largest_difference(name: str, model: onnx.ModelProto) -> float:
    """Against PyTorch, on a batch of another shape than the one it was exported with."""
    inputs = model_inputs(name, make_inputs(name, 6, (9, 2, 5)))
    with torch.no_grad():
        expected = load(name)(**inputs)[0].numpy()
    found = ReferenceEvaluator(model).run(None, {key: value.numpy() for key, value in inputs.items()})[0]
    return float(numpy.abs(found - expected).max())


EXPORTS = {
    "model_torchscript.onnx": (torchscript, 14),
    "model_torchscript_opset17.onnx": (torchscript, 17),
    "model_dynamo.onnx": (dynamo, 18),
}


def make() -> None:
    for name in TINY:
        for file, (export, opset) in EXPORTS.items():
            for attention in ("sdpa", "eager"):
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        model = export(name, opset, attention)
                    without_paths(model)
                    onnx.checker.check_model(model, full_check=True)
                    difference = largest_difference(name, model)
                    if not difference < 1e-4:
                        raise ValueError(f"differs from PyTorch by {difference:.2e}")
                except Exception as error:  # noqa: BLE001 - the next attention implementation is tried, the last failure ends the run
                    print(f"  models/{name}/onnx/{file} with {attention} attention failed: {type(error).__name__}: {str(error)[:300]}")
                    if attention == "eager":
                        raise
                    continue
                path = MODELS / name / "onnx" / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(model.SerializeToString(deterministic=True))
                opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
                print(
                    f"  models/{name}/onnx/{file}  {attention}, opset {opsets}, {len(model.graph.node)} nodes, "
                    f"{path.stat().st_size:,} bytes, differs by {difference:.1e}",
                    flush=True,
                )
                break
