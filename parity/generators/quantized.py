"""The files that transformers.js users have, from two tiny models: golden/quantized/<name>/{model*.onnx, golden.safetensors, about.json}.

Every file is compared with PyTorch over its own weights: what the file stores is dequantised and put into the model, in float32.
"""

import copy
import logging
import tempfile
import warnings
from pathlib import Path

import numpy
import onnx
import torch
import torch.nn.functional as F
import transformers as hf
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16
from peft import LoraConfig, get_peft_model

from .common import GOLDEN, generator, randomise, save_json, save_tensors
from .onnx_exports import AXES, narrowed, without_paths

FOLDER = GOLDEN / "quantized"
LORA = dict(r=4, lora_alpha=8, lora_dropout=0.0)
SIZES = dict(vocab_size=120, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=48)
LENGTHS = (11, 4, 9, 1, 7, 11)

CONFIGS = {
    "bert": (
        hf.BertForSequenceClassification,
        hf.BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3),
        ["query", "value", "intermediate.dense"],
    ),
    "llama": (
        hf.LlamaForCausalLM,
        hf.LlamaConfig(**SIZES, num_key_value_heads=2, bos_token_id=0, eos_token_id=2, use_cache=False),
        ["q_proj", "v_proj", "down_proj"],
    ),
    "vit": (
        hf.ViTForImageClassification,
        hf.ViTConfig(
            **dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4),
            **dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3),
        ),
        ["q_proj", "v_proj", "fc1"],
    ),
}
Tensors = dict[str, torch.Tensor]


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(31)
    model_class, config, _ = CONFIGS[name]
    model = model_class(config).float()
    randomise(model, 31)
    return model.eval()


def inputs_of(name: str, seed: int, lengths: tuple[int, ...] = LENGTHS) -> Tensors:
    source = generator(seed)
    if name == "vit":
        return {"pixel_values": torch.randn(len(lengths), 3, 16, 16, generator=source)}
    shape = (len(lengths), max(lengths))
    mask = torch.tensor([[1] * n + [0] * (shape[1] - n) for n in lengths])
    result = {"input_ids": torch.where(mask == 1, torch.randint(3, 120, shape, generator=source), 0), "attention_mask": mask}
    if name == "bert":
        result["token_type_ids"] = torch.randint(0, 2, shape, generator=source) * mask
    return result


def labels_of(name: str, inputs: Tensors) -> torch.Tensor:
    if name != "llama":
        return torch.randint(0, 3, (len(LENGTHS),), generator=generator(7))
    return torch.where(inputs["attention_mask"] == 1, inputs["input_ids"], -100)


def loss_of(name: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if name != "llama":
        return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def exported(name: str, model: torch.nn.Module) -> onnx.ModelProto:
    example = inputs_of(name, 5, (6, 4))
    with tempfile.NamedTemporaryFile(suffix=".onnx") as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            narrowed(copy.deepcopy(model), list(example)),
            tuple(example.values()),
            target.name,
            input_names=list(example),
            output_names=["logits"],
            dynamic_axes={key: {0: "batch"} if name == "vit" else AXES for key in example}
            | {"logits": AXES if name == "llama" else {0: "batch"}},
            opset_version=14,
            do_constant_folding=True,
            dynamo=False,
        )
        proto = onnx.load(target.name)
    without_paths(proto)
    return proto


class Batches(CalibrationDataReader):
    """Three batches to find the ranges of activations with."""

    def __init__(self, name: str) -> None:
        self.batches = iter([{k: v.numpy() for k, v in inputs_of(name, 40 + i).items()} for i in range(3)])

    def get_next(self) -> dict[str, numpy.ndarray] | None:
        return next(self.batches, None)


def through_files(proto: onnx.ModelProto, convert) -> onnx.ModelProto:
    """Runs a quantiser that reads and writes files."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = str(Path(folder) / "in.onnx"), str(Path(folder) / "out.onnx")
        onnx.save(proto, source)
        convert(source, target)
        return onnx.load(target)


def dynamic(proto: onnx.ModelProto, kind: QuantType, per_channel: bool) -> onnx.ModelProto:
    def convert(source: str, target: str) -> None:
        quantize_dynamic(source, target, weight_type=kind, per_channel=per_channel, extra_options={"EnableSubgraph": True})

    return through_files(proto, convert)


def static(name: str, proto: onnx.ModelProto) -> onnx.ModelProto:
    def convert(source: str, target: str) -> None:
        quantize_static(
            source,
            target,
            Batches(name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )

    return through_files(proto, convert)


def four_bits(proto: onnx.ModelProto, quant_format: QuantFormat, operators: tuple[str, ...], symmetric: bool) -> onnx.ModelProto:
    config = DefaultWeightOnlyQuantConfig(
        block_size=32, is_symmetric=symmetric, quant_format=quant_format, op_types_to_quantize=operators
    )
    source = copy.deepcopy(proto)
    # The quantiser declares opset 21 where it needs it, and leaves operators in their old form.
    if quant_format == QuantFormat.QDQ or "Gather" in operators:
        source = onnx.version_converter.convert_version(source, 21)
    quantizer = MatMulNBitsQuantizer(source, algo_config=config)
    quantizer.process()
    return quantizer.model.model


def nf4(proto: onnx.ModelProto) -> onnx.ModelProto:
    quantizer = MatMulBnb4Quantizer(copy.deepcopy(proto), MatMulBnb4Quantizer.NF4, 64)
    quantizer.process()
    return quantizer.model.model


def half(proto: onnx.ModelProto, keeps_io: bool) -> onnx.ModelProto:
    return convert_float_to_float16(copy.deepcopy(proto), keep_io_types=keeps_io)


def files_of(name: str, proto: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    is_decoder = name == "llama"
    q4 = four_bits(proto, QuantFormat.QOperator, ("MatMul", "Gather") if is_decoder else ("MatMul",), symmetric=not is_decoder)
    return {
        "model": proto,
        "model_fp16": half(proto, keeps_io=not is_decoder),
        "model_int8": dynamic(proto, QuantType.QInt8, per_channel=False),
        "model_uint8": dynamic(proto, QuantType.QUInt8, per_channel=False),
        "model_quantized": dynamic(proto, QuantType.QInt8, per_channel=True),
        "model_q4": q4,
        "model_q4f16": half(q4, keeps_io=not is_decoder),
        "model_bnb4": nf4(proto),
        "model_q4_qdq": four_bits(proto, QuantFormat.QDQ, ("MatMul",), symmetric=not is_decoder),
        "model_static_qdq": static(name, proto),
    }


NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
    *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]


def nibbles(data: numpy.ndarray) -> numpy.ndarray:
    return numpy.stack([data & 15, data >> 4], -1).reshape(*data.shape[:-1], -1)


def weights_in(proto: onnx.ModelProto) -> dict[str, numpy.ndarray]:
    """Every weight that a file stores, in float32, under the name of its bytes."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    found = {name: array.astype(numpy.float32) for name, array in tensors.items() if array.dtype in (numpy.float32, numpy.float16)}

    def scaled(data: str, scale: str, zero: str | None, axis: int | None, block: int) -> numpy.ndarray:
        codes, scales = tensors[data].astype(numpy.float32), tensors[scale].astype(numpy.float32)
        zeros = tensors[zero].astype(numpy.float32) if zero else numpy.zeros_like(scales)
        if block:
            spread = [numpy.repeat(part, block, axis=axis).take(range(codes.shape[axis]), axis=axis) for part in (scales, zeros)]
        elif scales.ndim == 1 and scales.size > 1:
            shape = [-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)]
            spread = [part.reshape(shape) for part in (scales, zeros)]
        else:
            spread = [scales.reshape(()), zeros.reshape(())]
        return (codes - spread[1]) * spread[0]

    for node in proto.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = [*node.input, "", "", ""]
        if node.op_type == "DequantizeLinear" and inputs[0] in tensors:
            axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
            found[inputs[0]] = scaled(inputs[0], inputs[1], inputs[2] or None, axis, block)
        elif node.op_type == "MatMulNBits":
            rows, columns, block = attributes["N"], attributes["K"], attributes["block_size"]
            codes = nibbles(tensors[inputs[1]]).astype(numpy.float32)  # [rows, blocks, block]
            scales = tensors[inputs[2]].astype(numpy.float32).reshape(rows, -1, 1)
            zeros = nibbles(tensors[inputs[3]].reshape(rows, -1))[:, : scales.shape[1], None] if inputs[3] else 8
            found[inputs[1]] = ((codes - zeros) * scales).reshape(rows, -1)[:, :columns].astype(numpy.float32)
            assert codes.shape[2] == block
        elif node.op_type == "MatMulBnb4":
            data, block = tensors[inputs[1]], attributes["block_size"]
            codes = numpy.stack([data >> 4, data & 15], -1).reshape(-1, block)
            values = numpy.array(NF4, numpy.float32)[codes] * tensors[inputs[2]].reshape(-1, 1)
            found[inputs[1]] = values.reshape(attributes["N"], attributes["K"])
        elif node.op_type == "GatherBlockQuantized":
            block, axis = attributes["block_size"], attributes["quantize_axis"]
            data = tensors[inputs[0]]
            if data.dtype == numpy.uint8:
                tensors[inputs[0]] = nibbles(data)
                found[inputs[0]] = scaled(inputs[0], inputs[2], None, axis, block) - 8 * numpy.repeat(tensors[inputs[2]], block, axis)
            else:
                found[inputs[0]] = scaled(inputs[0], inputs[2], inputs[3] or None, axis, block)
        elif node.op_type in ("MatMulInteger", "ConvInteger"):
            base = inputs[1].removesuffix("_quantized")
            axis = 1 if node.op_type == "MatMulInteger" else 0
            found[inputs[1]] = scaled(inputs[1], f"{base}_scale", f"{base}_zero_point", axis, 0)
    # Integers read by Gather are dequantised behind it.
    for node in proto.graph.node:
        if node.op_type == "Gather" and node.input[0].endswith("_quantized") and node.input[0] in tensors:
            base = node.input[0].removesuffix("_quantized")
            found[node.input[0]] = scaled(node.input[0], f"{base}_scale", f"{base}_zero_point", None, 0)
    return found


class RoundedGelu(torch.nn.Module):
    """GELU with the square root of two of a float16 file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * (1 + torch.erf(x / rounded(2**0.5)))


def rounded(value: float) -> float:
    return torch.tensor(value).half().item()


def round_constants(model: torch.nn.Module) -> None:
    """Constants of the graph as a float16 file has them."""
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = rounded(module.variance_epsilon)
        if hasattr(module, "inv_freq"):
            module.inv_freq = module.inv_freq.half().float()
        for activation in ("intermediate_act_fn", "activation_fn"):
            if isinstance(getattr(module, activation, None), hf.activations.GELUActivation):
                setattr(module, activation, RoundedGelu())


def with_weights_of(model: torch.nn.Module, proto: onnx.ModelProto) -> tuple[torch.nn.Module, int]:
    """The model with each parameter replaced by what the file stores for it (the nearest weight of its shape, or its transpose)."""
    stored = list(weights_in(proto).values())
    result = copy.deepcopy(model)
    changed = 0
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            own = parameter.numpy()
            candidates = [w for w in stored if w.shape == own.shape]
            candidates += [w.T for w in stored if w.ndim == 2 and w.T.shape == own.shape]
            nearest = min(candidates, key=lambda w: float(numpy.abs(w - own).mean()))
            if not numpy.abs(nearest - own).mean() < 0.15 * numpy.abs(own).mean():
                raise ValueError(f"no weight of the file is near {name}: {numpy.abs(nearest - own).mean()} of {numpy.abs(own).mean()}")
            changed += not numpy.array_equal(nearest, own)
            parameter.copy_(torch.from_numpy(numpy.ascontiguousarray(nearest)))
    return result, changed


def measured(name: str, model: torch.nn.Module, inputs: Tensors) -> Tensors:
    """Loss, logits, adapter and its gradients."""
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(**LORA, target_modules=CONFIGS[name][2])).eval()
    source = generator(99)
    adapter = {key.replace(".default", ""): p for key, p in adapted.named_parameters() if "lora_" in key}
    with torch.no_grad():
        for key, parameter in adapter.items():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * (0.15 if "lora_B" in key else 0.3))
    with torch.no_grad():
        plain = model(**inputs).logits
    logits = adapted(**inputs).logits
    loss = loss_of(name, logits, labels_of(name, inputs))
    gradients = torch.autograd.grad(loss, list(adapter.values()))
    return (
        {"logits": plain, "lora.loss": loss.reshape(1)}
        | {f"lora.adapter.{key}": p for key, p in adapter.items()}
        | {f"lora.grad.{key}": g for key, g in zip(adapter, gradients, strict=True)}
    )


def make() -> None:
    logging.disable(logging.WARNING)
    for name in CONFIGS:
        model = build(name)
        inputs = inputs_of(name, 6)
        tensors: Tensors = {f"input.{key}": value for key, value in inputs.items()} | {"labels": labels_of(name, inputs)}
        about: dict[str, object] = {"lora": {**LORA, "target_modules": CONFIGS[name][2]}, "files": {}}
        for file, proto in files_of(name, exported(name, model)).items():
            stored, changed = with_weights_of(model, proto)
            if file.endswith("16"):
                round_constants(stored)
            found = measured(name, stored, inputs)
            for key, value in found.items():
                tensors[key if key.startswith("lora.adapter") else f"{file}/{key}"] = value
            path = FOLDER / name / f"{file}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(proto.SerializeToString(deterministic=True))
            about["files"][file] = {"loss": found["lora.loss"].item(), "rounded_parameters": changed}
            print(f"  quantized/{name}/{file}.onnx  {path.stat().st_size:,} bytes, {changed} parameters rounded, loss {found['lora.loss'].item():.6f}", flush=True)
        save_tensors(FOLDER / name / "golden.safetensors", tensors)
        save_json(FOLDER / name / "about.json", about)
