"""Adapters beside and behind whole modules, which peft does not have: golden/module-adapters/<name>.safetensors and configs.json.

Written from the formulas of the papers and of AdapterHub's configurations: r is the residual stream, h the result of a branch, N the layer's norm.
"""

import math
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .common import GOLDEN, generator, save_json, save_tensors
from .inputs import make_inputs, model_inputs
from .models import load

FOLDER = GOLDEN / "module-adapters"
LENGTHS = (5, 3)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "identity": lambda x: x,
    "leakyrelu": functional.leaky_relu,
}

BLOCK: dict[str, Any] = {
    "mhAdapter": False,
    "outputAdapter": True,
    "originalLnBefore": False,
    "residualBeforeLn": True,
    "lnBefore": False,
    "lnAfter": False,
    "adapterResidualBeforeLn": False,
    "parallelInput": "residual",
    "useGating": False,
    "reductionFactor": 16,
    "nonLinearity": "relu",
    "scaling": 1.0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "houlsby": BLOCK | {"mhAdapter": True, "nonLinearity": "swish"},
    "pfeiffer": BLOCK | {"originalLnBefore": True},
    "pfeifferParallel": BLOCK | {"reductionFactor": 2, "scaling": 4.0},
}

# Name: model, type, options.
CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "houlsby": ("bert", "BOTTLENECK", {"placement": "houlsby", "reductionFactor": 4}),
    "houlsby-linear": ("bert", "BOTTLENECK", {"placement": "houlsby", "nonLinearity": "identity", "scaling": "channel"}),
    "pfeiffer": ("bert", "BOTTLENECK", {"placement": "pfeiffer", "reductionFactor": 4}),
    "pfeiffer-behind-norm": ("bert", "BOTTLENECK", {"placement": "pfeiffer", "residualBeforeLn": False, "mhAdapter": True}),
    "pfeiffer-own-norms": (
        "bert",
        "BOTTLENECK",
        {
            "placement": "pfeiffer",
            "residualBeforeLn": "postAdd",
            "lnBefore": True,
            "lnAfter": True,
            "adapterResidualBeforeLn": True,
            "nonLinearity": "gelu_new",
        },
    ),
    "parallel": ("bert", "BOTTLENECK", {"placement": "pfeifferParallel"}),
    "parallel-gated": (
        "bert",
        "BOTTLENECK",
        {"placement": "pfeifferParallel", "scaling": "learned", "useGating": True, "lnAfter": True, "nonLinearity": "leakyrelu"},
    ),
    "gpt2-houlsby": ("gpt2", "BOTTLENECK", {"placement": "houlsby", "reductionFactor": 4, "nonLinearity": "gelu"}),
    "gpt2-pfeiffer": ("gpt2", "BOTTLENECK", {"placement": "pfeiffer", "reductionFactor": 4}),
    "gpt2-parallel": ("gpt2", "BOTTLENECK", {"placement": "pfeifferParallel", "reductionFactor": 4}),
    "gpt2-parallel-normed": ("gpt2", "BOTTLENECK", {"placement": "pfeifferParallel", "parallelInput": "branch"}),
    "compacter": ("bert", "COMPACTER", {"reductionFactor": 4}),
    "compacter-plus-plus": ("bert", "COMPACTER", {"placement": "pfeiffer", "reductionFactor": 2, "phmRank": 2, "scaling": "learned"}),
    "compacter-own-rules": (
        "gpt2",
        "COMPACTER",
        {"reductionFactor": 4, "sharedPhmRule": False, "factorizedPhmRule": True, "phmDim": 2, "phmBias": False},
    ),
    "phm": ("bert", "COMPACTER", {"reductionFactor": 2, "factorizedPhmW": False, "phmDim": 8, "nonLinearity": "identity"}),
    "compacter-shared": (
        "bert",
        "COMPACTER",
        {"placement": "pfeifferParallel", "reductionFactor": 4, "sharedWPhm": True, "factorizedPhmRule": True},
    ),
    "at-linear": ("bert", "BOTTLENECK", {"bottleneckSize": 6}),
    "at-linear-parallel": ("bert", "BOTTLENECK", {"placement": "parallel", "bottleneckSize": 6, "scaling": 2.0}),
}

# Adapters of several methods: prefixes in attention, a bottleneck, LoRA, with gates or without.
COMPOSED: dict[str, dict[str, Any]] = {
    "mam": {
        "parts": [
            {"method": "PREFIX_TUNING", "config": {"numVirtualTokens": 3}},
            {"method": "BOTTLENECK", "config": {"placement": "pfeifferParallel", "reductionFactor": 4}},
        ]
    },
    "unipelt": {
        "parts": [
            {"method": "PREFIX_TUNING", "config": {"numVirtualTokens": 3}, "gated": True},
            {"method": "BOTTLENECK", "config": {"placement": "pfeiffer", "reductionFactor": 4, "useGating": True}},
            {"method": "LORA", "config": {"r": 4, "alpha": 2, "targetModules": ["query", "value"]}, "gated": True},
        ]
    },
}

Tensors = dict[str, Tensor]
Draw = Callable[..., Tensor]


def norm_of(x: Tensor, tensors: Tensors, which: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], tensors[f"{which}.weight"], tensors[f"{which}.bias"])


def block_tensors(config: dict[str, Any], width: int, draw: Draw) -> Tensors:
    """What an adapter at a branch has besides its projections."""
    tensors: Tensors = {}
    for which, wanted in (("adapter_norm_before", config["lnBefore"]), ("adapter_norm_after", config["lnAfter"])):
        if wanted:
            tensors |= {f"{which}.weight": 1 + draw(width), f"{which}.bias": draw(width)}
    if isinstance(config["scaling"], str):
        tensors["adapter_scaling"] = 1 + draw(width if config["scaling"] == "channel" else 1)
    if config["useGating"]:
        tensors |= {"adapter_gate.weight": draw(1, width), "adapter_gate.bias": draw(1)}
    return tensors


def scaled(x: Tensor, config: dict[str, Any], tensors: Tensors) -> Tensor:
    return x * (config["scaling"] if isinstance(config["scaling"], float) else tensors["adapter_scaling"])


def at_branch(h: Tensor, r: Tensor, read: Tensor, norm: nn.Module | None, config: dict[str, Any], tensors: Tensors, project: Any) -> Tensor:
    """The result of a branch with the adapter in effect; `read` is what the branch itself reads."""
    parallel = config["placement"] == "pfeifferParallel"
    normed = (norm or nn.Identity())(h + r)
    if parallel:
        u, residual = (read if config["parallelInput"] == "branch" else r), h
    elif config["originalLnBefore"]:
        u = normed
        residual = {True: h, False: normed, "postAdd": h + r}[config["residualBeforeLn"]]
    else:
        u, residual = h, h
    a = scaled(project(norm_of(u, tensors, "adapter_norm_before") if config["lnBefore"] else u), config, tensors)
    if config["useGating"]:
        gate = torch.sigmoid(u @ tensors["adapter_gate.weight"].T + tensors["adapter_gate.bias"])
        a = a * gate.mean(dim=1, keepdim=True)
    if config["lnAfter"] and config["adapterResidualBeforeLn"] and not parallel:
        return norm_of(a + residual, tensors, "adapter_norm_after")
    return residual + (norm_of(a, tensors, "adapter_norm_after") if config["lnAfter"] else a)


def dense(name: str, x: Tensor, tensors: Tensors) -> Tensor:
    return functional.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def bottleneck(x: Tensor, config: dict[str, Any], tensors: Tensors) -> Tensor:
    hidden = ACTIVATIONS[config["nonLinearity"]](dense("adapter_down", x, tensors))
    return dense("adapter_up", hidden, tensors)


def bottleneck_tensors(config: dict[str, Any], width: int, draw: Draw) -> Tensors:
    b = max(1, int(width // config["reductionFactor"]))
    return {
        "adapter_down.weight": draw(b, width),
        "adapter_down.bias": draw(b),
        "adapter_up.weight": draw(width, b),
        "adapter_up.bias": draw(width),
    }


def branches(name: str, model: nn.Module) -> list[tuple[str, str, nn.Module]]:
    """Kind, name of the module that ends it, and the module whose call is changed."""
    found = []
    for path, module in model.named_modules():
        kind = type(module).__name__
        if kind == "BertSelfOutput":
            found.append(("mhAdapter", f"{path}.dense", module))
        elif kind == "BertOutput":
            found.append(("outputAdapter", f"{path}.dense", module))
        elif kind == "GPT2Block":
            found.append(("mhAdapter", f"{path}.attn.c_proj", module))
            found.append(("outputAdapter", f"{path}.mlp.c_proj", module))
    return found


Adapt = Callable[[Tensor, Tensor, Tensor, nn.Module | None], Tensor]


def attach(kind: str, module: nn.Module, adapt: Adapt) -> None:
    """Puts `adapt(h, r, read, norm)` in the place of a branch's result."""
    if type(module).__name__ in ("BertSelfOutput", "BertOutput"):
        # Post-norm: the branch reads the residual stream itself.
        def forward(hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
            h = module.dropout(module.dense(hidden_states))
            return module.LayerNorm(adapt(h, input_tensor, input_tensor, module.LayerNorm) + input_tensor)

        module.forward = forward
        return
    norm, branch = (module.ln_1, module.attn) if kind == "mhAdapter" else (module.ln_2, module.mlp)
    seen: dict[str, Tensor] = {}
    norm.register_forward_hook(lambda _, args, out: seen.update(r=args[0], read=out))

    def hook(_: nn.Module, __: Any, out: Any) -> Any:
        if isinstance(out, tuple):
            return (adapt(out[0], seen["r"], seen["read"], None), *out[1:])
        return adapt(out, seen["r"], seen["read"], None)

    branch.register_forward_hook(hook)


def at_branches(base: str, model: nn.Module, kind: str, options: dict[str, Any], draw: Draw) -> Tensors:
    placement = options.get("placement", "houlsby")
    config = PRESETS[placement] | (PHM if kind == "COMPACTER" else {}) | options | {"placement": placement}
    width = model.config.hidden_size
    tensors: Tensors = {}
    make_tensors, project = PROJECTIONS[kind]
    shared = SHARED.get(kind, lambda *_: {})(config, width, draw)
    tensors |= shared
    for which, path, module in branches(base, model):
        if not config[which]:
            continue
        own = block_tensors(config, width, draw) | make_tensors(config, width, draw)
        tensors |= {f"{path}.{key}": value for key, value in own.items()}
        used = own | shared
        attach(
            which,
            module,
            lambda h, r, read, norm, used=used: at_branch(
                h, r, read, norm, config, used, lambda x: project(x, config, used)
            ),
        )
    return tensors


PHM: dict[str, Any] = {
    "reductionFactor": 32,
    "nonLinearity": "gelu",
    "phmDim": 4,
    "phmRank": 1,
    "sharedPhmRule": True,
    "factorizedPhmRule": False,
    "factorizedPhmW": True,
    "sharedWPhm": False,
    "phmBias": True,
}


def phm_rule(name: str, config: dict[str, Any], draw: Draw) -> Tensors:
    n = config["phmDim"]
    if config["factorizedPhmRule"]:
        return {f"{name}_left": 3 * draw(n, n, 1), f"{name}_right": 3 * draw(n, 1, n)}
    return {name: 2 * draw(n, n, n)}


def phm_weight(name: str, config: dict[str, Any], width: int, out: int, draw: Draw) -> Tensors:
    n, r = config["phmDim"], config["phmRank"]
    if config["factorizedPhmW"]:
        return {f"{name}_left": 2 * draw(n, width // n, r), f"{name}_right": 2 * draw(n, r, out // n)}
    return {name: 2 * draw(n, width // n, out // n)}


def phm_tensors(config: dict[str, Any], width: int, draw: Draw) -> Tensors:
    b = width // config["reductionFactor"]
    tensors: Tensors = {}
    for side, read, out in (("adapter_down", width, b), ("adapter_up", b, width)):
        if not config["sharedWPhm"]:
            tensors |= phm_weight(f"{side}.W", config, read, out, draw)
        if not config["sharedPhmRule"]:
            tensors |= phm_rule(f"{side}.phm_rule", config, draw)
        if config["phmBias"]:
            tensors[f"{side}.b"] = draw(out)
    return tensors


SHARED_PREFIX = "base_model.shared_parameters."


def phm_shared(config: dict[str, Any], width: int, draw: Draw) -> Tensors:
    b = width // config["reductionFactor"]
    tensors = phm_rule(f"{SHARED_PREFIX}phm_rule", config, draw) if config["sharedPhmRule"] else {}
    if config["sharedWPhm"]:
        tensors |= phm_weight(f"{SHARED_PREFIX}W_down", config, width, b, draw)
        tensors |= phm_weight(f"{SHARED_PREFIX}W_up", config, b, width, draw)
    return tensors


def product_of(name: str, tensors: Tensors) -> Tensor:
    return tensors[name] if name in tensors else tensors[f"{name}_left"] @ tensors[f"{name}_right"]


def compacter(x: Tensor, config: dict[str, Any], tensors: Tensors) -> Tensor:
    def layer(v: Tensor, side: str) -> Tensor:
        weight = product_of(f"{SHARED_PREFIX}W_{side}" if config["sharedWPhm"] else f"adapter_{side}.W", tensors)
        rule = product_of(f"{SHARED_PREFIX}phm_rule" if config["sharedPhmRule"] else f"adapter_{side}.phm_rule", tensors)
        h = sum(torch.kron(a, w) for a, w in zip(rule, weight, strict=True))
        return v @ h + tensors.get(f"adapter_{side}.b", 0)

    return layer(ACTIVATIONS[config["nonLinearity"]](layer(x, "down")), "up")


PROJECTIONS: dict[str, tuple[Callable[..., Tensors], Callable[..., Tensor]]] = {
    "BOTTLENECK": (bottleneck_tensors, bottleneck),
    "COMPACTER": (phm_tensors, compacter),
}
SHARED: dict[str, Callable[..., Tensors]] = {"COMPACTER": phm_shared}


def at_linears(model: nn.Module, options: dict[str, Any], draw: Draw) -> Tensors:
    """LLM-Adapters: in front of modules that widen, behind the others, or beside."""
    config = {"nonLinearity": "tanh", "scaling": 1.0, "placement": "auto"} | options
    parallel = config["placement"] == "parallel"
    endings = ("query", "key", "value") if parallel else ("intermediate.dense", "layer.0.output.dense", "layer.1.output.dense")
    tensors: Tensors = {}
    for path, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear) or not path.endswith(endings):
            continue
        b, (out, read) = config["bottleneckSize"], module.weight.shape
        before = not parallel and out > read
        down, up = (read if parallel or before else out), (read if before else out)
        own = {"adapter_down.weight": draw(b, down), "adapter_up.weight": draw(up, b)}
        tensors |= {f"{path}.{name}": value for name, value in own.items()}

        def forward(x: Tensor, module: nn.Linear = module, own: Tensors = own, before: bool = before) -> Tensor:
            def adapter(v: Tensor) -> Tensor:
                return scaled(bottleneck(v, config, own), config, own)

            if before:
                return functional.linear(x + adapter(x), module.weight, module.bias)
            y = functional.linear(x, module.weight, module.bias)
            return y + adapter(x if parallel else y)

        module.forward = forward
    return tensors


def gate(x: Tensor, tensors: Tensors, name: str) -> Tensor:
    """One number per sequence, [batch, 1, 1]."""
    return torch.sigmoid(x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]).mean(dim=1, keepdim=True)


def gated_lora(model: nn.Module, config: dict[str, Any], gated: bool, draw: Draw) -> Tensors:
    tensors: Tensors = {}
    for path, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear) or not path.endswith(tuple(config["targetModules"])):
            continue
        out, width = module.weight.shape
        own = {"lora_A.weight": draw(config["r"], width), "lora_B.weight": draw(out, config["r"])}
        if gated:
            own |= {"lora_gate.weight": draw(1, width), "lora_gate.bias": draw(1)}
        tensors |= {f"{path}.{name}": value for name, value in own.items()}

        def forward(x: Tensor, module: nn.Linear = module, own: Tensors = own) -> Tensor:
            update = config["alpha"] / config["r"] * x @ own["lora_A.weight"].T @ own["lora_B.weight"].T
            weight = gate(x, own, "lora_gate") if gated else 1
            return functional.linear(x, module.weight, module.bias) + weight * update

        module.forward = forward
    return tensors


def gated_prefix(model: nn.Module, config: dict[str, Any], gated: bool, draw: Draw) -> Tensors:
    """softmax over a prefix's keys, which no mask hides, and the block's own."""
    v, layers, width = config["numVirtualTokens"], model.config.num_hidden_layers, model.config.hidden_size
    table = 3 * draw(v, 2 * layers * width)
    tensors = {"prompt_embeddings": table}
    found = [(path, m) for path, m in model.named_modules() if type(m).__name__ == "BertSelfAttention"]
    for index, (path, module) in enumerate(found):
        own: Tensors = {}
        if gated:
            own = {"prefix_tuning_gate.weight": draw(1, width), "prefix_tuning_gate.bias": draw(1)}
            tensors |= {f"{path}.{name}": value for name, value in own.items()}
        prefix_k, prefix_v = table.split(width, dim=1)[2 * index : 2 * index + 2]

        def forward(
            x: Tensor,
            attention_mask: Tensor | None = None,
            *_: Any,
            module: nn.Module = module,
            own: Tensors = own,
            prefix: tuple[Tensor, Tensor] = (prefix_k, prefix_v),
            **__: Any,
        ) -> tuple[Tensor, None]:
            batch, tokens, hidden = x.shape
            heads = module.num_attention_heads

            def split(t: Tensor) -> Tensor:
                return t.view(t.shape[0], -1, heads, hidden // heads).transpose(1, 2)

            weight = gate(x, own, "prefix_tuning_gate") if own else torch.ones(batch, 1, 1)
            keys, values = (
                torch.cat([split(weight * p.expand(batch, v, hidden)), split(projection(x))], dim=2)
                for p, projection in zip(prefix, (module.key, module.value), strict=True)
            )
            scores = split(module.query(x)) @ keys.transpose(2, 3) / math.sqrt(hidden // heads)
            if attention_mask is not None:
                scores[..., v:] += attention_mask
            return (scores.softmax(-1) @ values).transpose(1, 2).reshape(batch, tokens, hidden), None

        module.forward = forward
    return tensors


def composed(model: nn.Module, parts: list[dict[str, Any]], draw: Draw) -> Tensors:
    tensors: Tensors = {}
    for part in parts:
        gated = part.get("gated", False)
        if part["method"] == "PREFIX_TUNING":
            tensors |= gated_prefix(model, part["config"], gated, draw)
        elif part["method"] == "LORA":
            tensors |= gated_lora(model, part["config"], gated, draw)
        else:
            tensors |= at_branches("bert", model, part["method"], part["config"], draw)
    return tensors


def make() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    cases = CONFIGS | {name: ("bert", "COMPOSITION", config) for name, config in COMPOSED.items()}
    save_json(FOLDER / "configs.json", {name: {"base": b, "type": t, "config": c} for name, (b, t, c) in cases.items()})
    for number, (name, (base, kind, options)) in enumerate(cases.items()):
        source = generator(700 + number)

        def draw(*shape: int, source: torch.Generator = source) -> Tensor:
            scale = 0.5 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.1
            return scale * torch.randn(shape, generator=source)

        model = load(base, attn_implementation="eager")
        block = kind == "COMPACTER" or options.get("placement") in PRESETS
        more: Tensors = {}
        inputs = model_inputs(base, make_inputs(base, 720, LENGTHS))
        if kind == "COMPOSITION":
            tensors = composed(model, options["parts"], draw)
            # Real tokens stand behind the prefix.
            first = options["parts"][0]["config"]["numVirtualTokens"]
            more["position_ids"] = torch.arange(first, first + inputs["input_ids"].shape[1])[None]
        elif block:
            tensors = at_branches(base, model, kind, options, draw)
        else:
            tensors = at_linears(model, options, draw)
        with torch.no_grad():
            logits = model(**inputs, **more).logits
            plain = load(base)(**inputs).logits
        golden = {f"input.{key}": value for key, value in inputs.items()} | {"output.logits": logits, "base.logits": plain}
        save_tensors(FOLDER / f"{name}.safetensors", golden | {f"adapter.{key}": value for key, value in tensors.items()})
