"""Files as Hugging Face Optimum writes them and as transformers.js' conversion goes on: onnxslim, then 16, 8 and 4 bits.

golden/optimum/<name>/: *.onnx, golden.safetensors, golden.json. Needs requirements-optimum.txt: Optimum wants a transformers of generation 4.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnxslim
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16
from optimum.exporters.onnx import onnx_export_from_model
from peft import LoraConfig, get_peft_model
from transformers.modeling_outputs import BaseModelOutput
from transformers.pytorch_utils import Conv1D

from .architectures import build
from .common import GOLDEN, generator, relative_difference, save_json, save_tensors, versions
from .inputs import make_inputs
from .onnx_exports import without_paths

Tensors = dict[str, torch.Tensor]
Forward = Callable[[torch.nn.Module, Tensors], Tensors]

FOLDER = GOLDEN / "optimum"
LORA = dict(r=2, lora_alpha=4, lora_dropout=0.0)
VOCABULARY, WIDTH, HEADS, LAYERS, BATCH, TOKENS, FRAMES = 120, 32, 4, 2, 3, 9, 40


@dataclass(frozen=True)
class Case:
    """A model of `architectures.py`, and one of the files that Optimum makes of it. `part` is the module that the file is of."""

    architecture: str
    task: str
    inputs: Callable[[], Tensors]
    outputs: tuple[str, ...]
    forward: Forward | None = None
    part: str = ""
    # What is committed: the file's stem, and what is done with it after the export.
    files: tuple[tuple[str, str], ...] = (("model", "slim"),)
    # Ends of the names of linear layers that have no part in the outputs, or that this file reads from elsewhere.
    without: tuple[str, ...] = ()


def text(seed: int, name: str) -> Tensors:
    lengths = tuple(TOKENS - 2 * i for i in range(BATCH))
    drawn = make_inputs(name, seed, lengths)
    return {key: drawn[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in drawn}


def ids(seed: int, tokens: int) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (BATCH, tokens), generator=generator(seed))


def mask(tokens: int) -> torch.Tensor:
    lengths = torch.tensor([tokens - 2 * i for i in range(BATCH)])
    return (torch.arange(tokens) < lengths[:, None]).long()


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed))


def no_past(heads: int, cross: bool = False) -> Tensors:
    """The cache before the first token: its inputs are there and hold nothing."""
    empty = torch.zeros(BATCH, heads, 0, WIDTH // HEADS)
    parts = ("decoder.key", "decoder.value", "encoder.key", "encoder.value") if cross else ("key", "value")
    return {f"past_key_values.{i}.{part}": empty for i in range(LAYERS) for part in parts}


def causal(seed: int, heads: int) -> Tensors:
    given = mask(TOKENS)
    positions = (given.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": ids(seed, TOKENS), "attention_mask": given, "position_ids": positions} | no_past(heads)


def decoder_inputs(seed: int, tokens: int, with_mask: bool) -> Tensors:
    given: Tensors = {"input_ids": ids(seed, 7), "encoder_hidden_states": noise(seed + 1, BATCH, tokens, WIDTH)}
    if with_mask:
        given["encoder_attention_mask"] = mask(tokens)
    return given | no_past(HEADS, cross=True) | {"use_cache_branch": torch.zeros(1, dtype=torch.bool)}


def decode(model: torch.nn.Module, given: Tensors) -> Tensors:
    """The decoder of a pair by itself, over given states of its encoder."""
    result = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=given["encoder_hidden_states"]),
        attention_mask=given.get("encoder_attention_mask"),
        decoder_input_ids=given["input_ids"],
        use_cache=False,
    )
    return {"logits": result.logits}


def call(model: torch.nn.Module, given: Tensors) -> Tensors:
    named = {key: value for key, value in given.items() if not key.startswith("past_key")}
    result = model(**named)
    return {key: value for key, value in result.items() if torch.is_tensor(value)}


MERGED = ("decoder_model_merged", "slim"), ("decoder_model_merged", "slim quantized"), ("decoder_model_merged", "slim q4")
CASES: dict[str, Case] = {
    "bert": Case("bert", "text-classification", lambda: text(1, "bert"), ("logits",), files=(("model", "raw"), ("model", "slim"))),
    "distilbert": Case("distilbert", "text-classification", lambda: text(2, "distilbert"), ("logits",)),
    "roberta": Case("roberta", "text-classification", lambda: text(3, "roberta"), ("logits",)),
    "gpt2": Case("gpt2", "text-generation-with-past", lambda: causal(4, HEADS), ("logits",)),
    "llama": Case("llama", "text-generation-with-past", lambda: causal(5, 2), ("logits",)),
    "vit": Case("vit", "image-classification", lambda: {"pixel_values": noise(6, BATCH, 3, 16, 16)}, ("logits",)),
    "clip": Case(
        "clip",
        "zero-shot-image-classification",
        lambda: {"input_ids": ids(7, TOKENS), "attention_mask": mask(TOKENS), "pixel_values": noise(8, BATCH, 3, 16, 16)},
        ("logits_per_image", "text_embeds", "image_embeds"),
    ),
    "whisper-encoder": Case(
        "whisper",
        "automatic-speech-recognition-with-past",
        lambda: {"input_features": noise(9, BATCH, 8, FRAMES)},
        ("last_hidden_state",),
        part="model.encoder",
        files=(("encoder_model", "slim"),),
    ),
    "whisper-decoder": Case(
        "whisper",
        "automatic-speech-recognition-with-past",
        lambda: decoder_inputs(10, FRAMES // 2, with_mask=False),
        ("logits",),
        decode,
        files=MERGED,
        without=("encoder.",),
    ),
    "t5-encoder": Case(
        "t5",
        "text2text-generation-with-past",
        lambda: {"input_ids": ids(11, TOKENS), "attention_mask": mask(TOKENS)},
        ("last_hidden_state",),
        part="encoder",
        files=(("encoder_model", "slim"),),
    ),
    "t5-decoder": Case(
        "t5",
        "text2text-generation-with-past",
        lambda: decoder_inputs(12, TOKENS, with_mask=True),
        ("logits",),
        decode,
        files=(("decoder_model_merged", "raw"), ("decoder_model_merged", "fp16")),
        without=("encoder.",),
    ),
}


def slim(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnxslim.slim(copy.deepcopy(proto))


def quantized(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Dynamic int8, as in model_quantized.onnx."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        onnx.save(proto, source)
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True})
        return onnx.load(target)


def q4(proto: onnx.ModelProto) -> onnx.ModelProto:
    quantizer = MatMulNBitsQuantizer(copy.deepcopy(proto), block_size=32, is_symmetric=True)
    quantizer.process()
    return quantizer.model.model


def fp16(proto: onnx.ModelProto) -> onnx.ModelProto:
    # With keep_io_types the converter breaks files whose nodes lie in branches: ONNX Runtime refuses them.
    return convert_float_to_float16(copy.deepcopy(proto), keep_io_types=False, disable_shape_infer=True)


STEPS = {"raw": lambda proto: proto, "slim": slim, "quantized": quantized, "q4": q4, "fp16": fp16}


def export(case: Case, folder: Path) -> None:
    """Every file that Optimum makes of the model."""
    sizes = dict(nb_max_frames=FRAMES, feature_size=8) if case.architecture == "whisper" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx_export_from_model(build(case.architecture), folder, task=case.task, do_validation=False, **sizes)


def linear_names(model: torch.nn.Module, without: tuple[str, ...]) -> list[str]:
    kinds = (torch.nn.Linear, Conv1D)
    return [path for path, module in model.named_modules() if type(module) in kinds and not any(part in path for part in without)]


def part_of(case: Case, model: torch.nn.Module) -> torch.nn.Module:
    return model.get_submodule(case.part) if case.part else model


def with_lora(case: Case, seed: int) -> torch.nn.Module:
    """LoRA on every linear layer, B not zero so that A has a gradient."""
    model = part_of(case, build(case.architecture))
    adapted = get_peft_model(model, LoraConfig(**LORA, target_modules=linear_names(model, case.without)))
    source = generator(seed)
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=source) * (0.15 if "lora_B" in key else 0.3))
    return adapted.eval()


def measure(case: Case, double: bool) -> Tensors:
    """Outputs, the loss (the sum over outputs of mean(output * cotangent)) and the gradients of LoRA."""

    def cast(value: Any) -> Any:
        return value.double() if double and (isinstance(value, torch.nn.Module) or value.is_floating_point()) else value

    given = {key: cast(value) for key, value in case.inputs().items()}
    def forward(model: torch.nn.Module) -> Tensors:
        # CLIP makes its mask in the default type, of the smallest number of the type of its states.
        torch.set_default_dtype(torch.float64 if double else torch.float32)
        try:
            return (case.forward or call)(model, given)
        finally:
            torch.set_default_dtype(torch.float32)

    with torch.no_grad():
        plain = forward(cast(part_of(case, build(case.architecture))))
    source = generator(300)
    cotangents = {key: torch.randn(plain[key].shape, generator=source) for key in case.outputs}
    padding = given.get("attention_mask")
    for key, value in cotangents.items():
        # What a model puts out for padding means nothing.
        if padding is not None and value.ndim == 3 and value.shape[:2] == padding.shape:
            cotangents[key] = value * padding.unsqueeze(-1)
    adapted = cast(with_lora(case, 200))
    adapter = {key.replace(".default", ""): value for key, value in adapted.named_parameters() if "lora_" in key}
    found = forward(adapted)
    loss = sum((found[key] * cast(cotangents[key])).mean() for key in case.outputs)
    gradients = torch.autograd.grad(loss, list(adapter.values()), allow_unused=True, materialize_grads=True)
    return (
        {f"cotangent.{key}": value for key, value in cotangents.items()}
        | {f"output.{key}": plain[key] for key in case.outputs}
        | {f"lora.adapter.{key}": value for key, value in adapter.items()}
        | {f"lora.grad.{key}": value for key, value in zip(adapter, gradients, strict=True)}
        | {"lora.loss": loss.detach().reshape(1)}
    )


def golden(case: Case, folder: Path) -> None:
    found, exact = measure(case, double=False), measure(case, double=True)

    def only(tensors: Tensors) -> Tensors:
        return {key: value for key, value in tensors.items() if ".grad." in key}

    # Truth values and empty tensors need no file: a test makes them.
    given = {f"input.{key}": value for key, value in case.inputs().items() if value.numel() > 0 and value.dtype != torch.bool}
    save_tensors(folder / "golden.safetensors", found | given)
    about = {
        "class": type(build(case.architecture)).__name__,
        "loss_function": "sum over the outputs of mean(output * cotangent)",
        "lora": LORA,
        "relative_difference_float32_to_float64": {"lora": relative_difference(only(found), only(exact))},
        "versions": versions() | {name: version(name) for name in ("optimum-onnx", "onnxslim", "onnxruntime")},
    }
    save_json(folder / "golden.json", about)


def make(names: list[str] | None = None, target: Path = FOLDER) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, case in CASES.items():
            if names and name not in names:
                continue
            exported = Path(scratch) / case.architecture
            if not exported.exists():
                export(case, exported)
            folder = target / name
            golden(case, folder)
            for stem, steps in case.files:
                proto = onnx.load(exported / f"{stem}.onnx")
                for step in steps.split():
                    proto = STEPS[step](proto)
                without_paths(proto)
                suffix = "" if steps == "raw" else "_" + steps.replace(" ", "_")
                path = folder / f"{stem}{suffix}.onnx"
                path.write_bytes(proto.SerializeToString(deterministic=True))
                print(f"  optimum/{name}/{path.name}  {len(proto.graph.node)} nodes, {path.stat().st_size:,} bytes", flush=True)
