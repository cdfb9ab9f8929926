"""Fused forms of the tiny models, as ONNX Runtime's tools write them, beside the plain exports: golden/models/<name>/onnx/
and golden/exports/<name>/.

model_optimized.onnx  the transformer optimiser of the onnxruntime package (packed QKV in Attention, EmbedLayerNormalization,
                      SkipLayerNormalization, BiasGelu). It knows the attention of transformers 4 only, so the scores are
                      computed in that form for the export: divided by the square root, the mask -10000 * (1 - mask).
model_extended.onnx   what an inference session saves at level "extended".
model_packing.onnx    the optimiser's file in packing mode: between RemovePadding and RestorePadding layers see real tokens only
                      (PackedAttention). For CUDA; no CPU runs it.
model_genai.onnx      a decoder as the GenAI builder writes it: GroupQueryAttention with a key and value cache, rotary positions
                      inside, SkipSimplifiedLayerNormalization; its node and weight names. `_packed` has one qkv_proj.
"""

import importlib
import io
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.convert_to_packing_mode import PackingMode
from onnxruntime.transformers.onnx_model import OnnxModel

from .architectures import build
from .common import MODELS
from .exports import EXPORTS, exported
from .inputs import make_inputs, model_inputs
from .models import TINY, load
from .onnx_exports import AXES, narrowed, without_paths

Array = numpy.ndarray


def classic_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores + mask
    weights = torch.nn.functional.softmax(scores, dim=-1)
    return torch.matmul(weights, value).permute(0, 2, 1, 3).contiguous(), weights


def classic_export(name: str) -> onnx.ModelProto:
    """A TorchScript export whose attention and mask are those of transformers 4."""
    family = load(name).config.model_type
    modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    eager, modeling.eager_attention_forward = modeling.eager_attention_forward, classic_attention
    try:
        model = load(name, attn_implementation="eager")
        forward = model.forward

        def masked(**inputs: torch.Tensor) -> Any:
            mask = inputs.pop("attention_mask")[:, None, None, :].to(torch.float32)
            return forward(attention_mask=(1.0 - mask) * -10000.0, **inputs)

        model.forward = masked
        example = model_inputs(name, make_inputs(name, 5, (6, 4)))
        target = io.BytesIO()
        torch.onnx.export(
            narrowed(model, list(example)),
            tuple(example.values()),
            target,
            input_names=list(example),
            output_names=["logits"],
            dynamic_axes={key: AXES for key in example} | {"logits": {0: "batch"}},
            opset_version=14,
            dynamo=False,
        )
        return onnx.load_from_string(target.getvalue())
    finally:
        modeling.eager_attention_forward = eager


def optimized(name: str) -> onnx.ModelProto:
    config = load(name).config
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(classic_export(name), path)
        result = optimizer.optimize_model(
            str(path), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size, opt_level=0
        )
        result.topological_sort()
        return result.model


def extended(name: str) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            MODELS / name / "onnx" / "model_torchscript.onnx", options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(options.optimized_model_filepath)


def optimized_vision(name: str) -> onnx.ModelProto:
    """ViT and CLIP: the optimiser knows CLIP's current attention, and ViT's of transformers 4."""
    modeling = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    eager = modeling.eager_attention_forward
    if name == "vit":
        modeling.eager_attention_forward = classic_attention
    try:
        model = build(name)
        model.set_attn_implementation("eager")
        plain = exported(name, "torchscript17", model)
    finally:
        modeling.eager_attention_forward = eager
    config = getattr(model.config, "vision_config", model.config)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(plain, path)
        result = optimizer.optimize_model(
            str(path), name, num_heads=config.num_attention_heads, hidden_size=config.hidden_size, opt_level=0
        )
        result.topological_sort()
        return result.model


class Graph:
    """Nodes and weights under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, name: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> str:
        domain = "com.microsoft" if op in MICROSOFT else ""
        made = outputs or [f"{name}/output_0"]
        self.nodes.append(helper.make_node(op, inputs, made, name=name, domain=domain, **attributes))
        return made[0]

    def weight(self, name: str, value: Array) -> str:
        self.weights.append(numpy_helper.from_array(numpy.ascontiguousarray(value), name))
        return name

    def model(self, inputs: list[Any], outputs: list[Any], opset: int, producer: str) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "main_graph", inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, producer_name=producer, ir_version=8)


MICROSOFT = {
    "Attention",
    "EmbedLayerNormalization",
    "FastGelu",
    "GroupQueryAttention",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}


def gpt2() -> onnx.ModelProto:
    """GPT-2 as the optimiser writes it for transformers 4 (its pattern fits no current export): names of nodes and values are its own."""
    model = load("gpt2")
    config = model.config
    state = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    g = Graph()
    for key, value in state.items():
        if key != "lm_head.weight":
            g.weight(key, value)
    ids = g.node("Cast", "Cast_ids", ["input_ids"], ["input_ids_int32"], to=TensorProto.INT32)
    mask = g.node("Cast", "Cast_mask", ["attention_mask"], ["attention_mask_int32"], to=TensorProto.INT32)
    h = "transformer.h"
    normed = g.node(
        "EmbedLayerNormalization",
        "EmbedLayerNormalization_0",
        [ids, "", "transformer.wte.weight", "transformer.wpe.weight", "", f"{h}.0.ln_1.weight", f"{h}.0.ln_1.bias"],
        ["embed_normed", "", "embed_sum"],
        epsilon=config.layer_norm_epsilon,
        mask_index_type=0,
    )
    residual = "embed_sum"
    for i in range(config.n_layer):
        at, path = f"{h}.{i}", f"/transformer/h.{i}"
        context = g.node(
            "Attention",
            f"Attention_{i}",
            [normed, f"{at}.attn.c_attn.weight", f"{at}.attn.c_attn.bias", mask],
            num_heads=config.n_head,
            unidirectional=1,
        )
        out = g.node("MatMul", f"{path}/attn/c_proj/MatMul", [context, f"{at}.attn.c_proj.weight"])
        normed = g.node(
            "SkipLayerNormalization",
            f"SkipLayerNorm_AddBias_{2 * i}",
            [out, residual, f"{at}.ln_2.weight", f"{at}.ln_2.bias", f"{at}.attn.c_proj.bias"],
            [f"{path}/ln_2/output_0", "", "", f"{path}/Add_output_0"],
            epsilon=config.layer_norm_epsilon,
        )
        residual = f"{path}/Add_output_0"
        up = g.node("MatMul", f"{path}/mlp/c_fc/MatMul", [normed, f"{at}.mlp.c_fc.weight"])
        gelu = g.node("FastGelu", f"FastGelu_AddBias_{i}", [up, f"{at}.mlp.c_fc.bias"])
        down = g.node("MatMul", f"{path}/mlp/c_proj/MatMul", [gelu, f"{at}.mlp.c_proj.weight"])
        after = f"{h}.{i + 1}.ln_1" if i + 1 < config.n_layer else "transformer.ln_f"
        normed = g.node(
            "SkipLayerNormalization",
            f"SkipLayerNorm_AddBias_{2 * i + 1}",
            [down, residual, f"{after}.weight", f"{after}.bias", f"{at}.mlp.c_proj.bias"],
            [f"{path}/output_0", "", "", f"{path}/Add_1_output_0"],
            epsilon=config.layer_norm_epsilon,
        )
        residual = f"{path}/Add_1_output_0"
    head = g.weight("onnx::MatMul_head", state["lm_head.weight"].T)
    g.node("MatMul", "/lm_head/MatMul", [normed, head], ["logits"])
    tokens = ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info(key, TensorProto.INT64, tokens) for key in ("input_ids", "attention_mask")]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*tokens, config.vocab_size])
    return g.model(inputs, [logits], 14, "onnxruntime.transformers")


def genai(packed: bool) -> onnx.ModelProto:
    model = load("llama")
    config = model.config
    state = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    heads, shared, width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    g = Graph()
    lengths = g.node(
        "ReduceSum", "/model/attn_mask_reformat/attn_mask_subgraph/ReduceSum", ["attention_mask", g.weight("axes_1", numpy.array([1]))]
    )
    g.weight("one", numpy.array([1]))
    less = g.node("Sub", "/model/attn_mask_reformat/attn_mask_subgraph/Sub", [lengths, "one"])
    seqlens = g.node("Cast", "/model/attn_mask_reformat/attn_mask_subgraph/Sub/Cast", [less], to=TensorProto.INT32)
    seqlens = g.node("Squeeze", "/model/attn_mask_reformat/attn_mask_subgraph/Squeeze", [seqlens, "one"])
    shape = g.node("Shape", "/model/attn_mask_reformat/attn_mask_subgraph/Shape", ["attention_mask"])
    total = g.node("Gather", "/model/attn_mask_reformat/attn_mask_subgraph/Gather", [shape, g.weight("index_1", numpy.array(1))])
    total = g.node("Cast", "/model/attn_mask_reformat/attn_mask_subgraph/Gather/Cast", [total], to=TensorProto.INT32)
    angles = numpy.outer(
        numpy.arange(config.max_position_embeddings), 1 / 10000 ** (numpy.arange(0, width, 2) / width)
    ).astype(numpy.float32)
    g.weight("cos_cache", numpy.cos(angles))
    g.weight("sin_cache", numpy.sin(angles))

    def linear(path: str, x: str, value: Array) -> str:
        name = path.strip("/").replace("/", ".")
        return g.node("MatMul", f"{path}/MatMul", [x, g.weight(f"{name}.MatMul.weight", value.T)])

    norm = dict(axis=-1, epsilon=config.rms_norm_eps, stash_type=1)
    skip = dict(epsilon=config.rms_norm_eps)
    root = g.node("Gather", "/model/embed_tokens/Gather", [g.weight("model.embed_tokens.weight", state["model.embed_tokens.weight"]), "input_ids"])
    first = "model.layers.0.input_layernorm.weight"
    x = g.node("SimplifiedLayerNormalization", "/model/layers.0/input_layernorm/LayerNorm", [root, g.weight(first, state[first])], **norm)
    for i in range(config.num_hidden_layers):
        at, path = f"model.layers.{i}", f"/model/layers.{i}"
        parts = [state[f"{at}.self_attn.{part}_proj.weight"] for part in "qkv"]
        if packed:
            qkv = [linear(f"{path}/attn/qkv_proj", x, numpy.concatenate(parts)), "", ""]
        else:
            qkv = [linear(f"{path}/attn/{part}_proj", x, value) for part, value in zip("qkv", parts, strict=True)]
        cache = [f"past_key_values.{i}.key", f"past_key_values.{i}.value"]
        context = g.node(
            "GroupQueryAttention",
            f"{path}/attn/GroupQueryAttention",
            [*qkv, *cache, seqlens, total, "cos_cache", "sin_cache"],
            [f"{path}/attn/GroupQueryAttention/output_0", f"present.{i}.key", f"present.{i}.value"],
            num_heads=heads,
            kv_num_heads=shared,
            scale=1 / math.sqrt(width),
            local_window_size=-1,
            do_rotary=1,
            rotary_interleaved=0,
        )
        out = linear(f"{path}/attn/o_proj", context, state[f"{at}.self_attn.o_proj.weight"])
        weight = g.weight(f"{at}.post_attention_layernorm.weight", state[f"{at}.post_attention_layernorm.weight"])
        made = f"{path}/post_attention_layernorm/output"
        x = g.node(
            "SkipSimplifiedLayerNormalization", f"{path}/post_attention_layernorm/SkipLayerNorm", [root, out, weight], [f"{made}_0", "", "", f"{made}_3"], **skip
        )
        root = f"{made}_3"
        gate = linear(f"{path}/mlp/gate_proj", x, state[f"{at}.mlp.gate_proj.weight"])
        up = linear(f"{path}/mlp/up_proj", x, state[f"{at}.mlp.up_proj.weight"])
        sigmoid = g.node("Sigmoid", f"{path}/mlp/act_fn/Sigmoid", [gate])
        silu = g.node("Mul", f"{path}/mlp/act_fn/Mul", [gate, sigmoid])
        product = g.node("Mul", f"{path}/mlp/Mul", [silu, up])
        down = linear(f"{path}/mlp/down_proj", product, state[f"{at}.mlp.down_proj.weight"])
        last = i + 1 == config.num_hidden_layers
        own = "model.norm.weight" if last else f"model.layers.{i + 1}.input_layernorm.weight"
        step = "final_norm_layernorm" if last else "input_layernorm"
        path = f"/model/layers.{i + 1}/{step}"
        made = f"{path}/output"
        x = g.node(
            "SkipSimplifiedLayerNormalization",
            f"{path}/SkipLayerNorm",
            [root, down, g.weight(f"model.layers.{i + 1}.{step}.weight", state[own])],
            [f"{made}_0"] if last else [f"{made}_0", "", "", f"{made}_3"],
            **skip,
        )
        root = f"{made}_3"
    g.node("MatMul", "/lm_head/MatMul", [x, g.weight("lm_head.MatMul.weight", state["lm_head.weight"].T)], ["logits"])
    value = helper.make_tensor_value_info
    inputs = [value("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])]
    inputs.append(value("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]))
    outputs = [value("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", config.vocab_size])]
    for i in range(config.num_hidden_layers):
        for part in ("key", "value"):
            kind = (TensorProto.FLOAT, ["batch_size", shared, "past_sequence_length", width])
            inputs.append(value(f"past_key_values.{i}.{part}", *kind))
            outputs.append(value(f"present.{i}.{part}", TensorProto.FLOAT, ["batch_size", shared, "total_sequence_length", width]))
    return g.model(inputs, outputs, 14, "onnxruntime-genai")


def packing() -> onnx.ModelProto:
    model = OnnxModel(optimized("bert"))
    PackingMode(model).convert(use_symbolic_shape_infer=False)
    return model.model


def largest_difference(name: str, model: onnx.ModelProto) -> float | None:
    """ONNX Runtime against PyTorch on a batch of another shape; None where it has no kernel: for narrow heads, for real tokens only."""
    no_kernel = any(node.op_type == "RemovePadding" for node in model.graph.node)
    if no_kernel or any(input.name.startswith("past_key_values") for input in model.graph.input):
        return None
    inputs = model_inputs(name, make_inputs(name, 6, (9, 2, 5)))
    with torch.no_grad():
        expected = load(name)(**inputs)[0].numpy()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {entry.name: inputs[entry.name].numpy() for entry in session.get_inputs()})[0]
    return float(numpy.abs(found - expected).max())


FUSED = {
    "bert/onnx/model_optimized.onnx": lambda: optimized("bert"),
    "bert/packing/model_packing.onnx": packing,
    "distilbert/onnx/model_optimized.onnx": lambda: optimized("distilbert"),
    "bert/onnx/model_extended.onnx": lambda: extended("bert"),
    "gpt2/onnx/model_optimized.onnx": gpt2,
    "llama/genai/model_genai.onnx": lambda: genai(packed=False),
    "llama/genai/model_genai_packed.onnx": lambda: genai(packed=True),
}


def make() -> None:
    for file, construct in FUSED.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = construct()
        without_paths(model)
        name = file.split("/")[0]
        difference = largest_difference(name, model)
        if difference is not None and not difference < 1e-4:
            raise ValueError(f"{file} differs from PyTorch by {difference:.2e}")
        path = MODELS / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
        shown = "not run" if difference is None else f"differs by {difference:.1e}"
        print(f"  models/{file}  {len(model.graph.node)} nodes, {path.stat().st_size:,} bytes, {shown}", flush=True)
    for name in ("vit", "clip"):  # compared with PyTorch by the test that reads all exports
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = optimized_vision(name)
        without_paths(model)
        path = EXPORTS / name / "model_optimized.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        print(f"  exports/{name}/model_optimized.onnx  {len(model.graph.node)} nodes, {path.stat().st_size:,} bytes", flush=True)
