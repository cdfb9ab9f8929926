"""LoRA adapters combined by add_weighted_adapter of peft: golden/combine.safetensors, the runs' options in combine.json.

a.*, b.* are the tensors of two adapters, <run>.* those of a combination with their scale (alpha / r) in the factors; runs that
end in "svd" hold the products B·A instead, because singular vectors are unique up to sign only.
"""

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import nn

from .common import GOLDEN, generator, save_json, save_tensors

CONFIGS = {
    "a": {"r": 2, "lora_alpha": 3},
    "b": {"r": 2, "lora_alpha": 8, "use_rslora": True},
    "wide": {"r": 3, "lora_alpha": 2, "target_modules": ["dense"]},
}
# name: adapters, weights and what add_weighted_adapter is called with.
RUNS = {
    "linear": (["a", "b"], [0.7, -0.4], {"combination_type": "linear"}),
    "cat": (["a", "b"], [0.7, -0.4], {"combination_type": "cat"}),
    "cat_of_ranks": (["a", "wide"], [1.0, 0.5], {"combination_type": "cat"}),
    "svd": (["a", "wide"], [1.0, -0.5], {"combination_type": "svd"}),
    "svd_of_rank_1": (["a", "b"], [0.7, 0.4], {"combination_type": "svd", "svd_rank": 1}),
    "ties": (["a", "b"], [0.7, 0.4], {"combination_type": "ties", "density": 0.6}),
    "ties_by_frequency": (["a", "b"], [0.7, -0.4], {"combination_type": "ties", "density": 0.5, "majority_sign_method": "frequency"}),
    "ties_svd": (["a", "b"], [0.7, 0.4], {"combination_type": "ties_svd", "density": 0.4}),
    "magnitude_prune": (["a", "b"], [0.7, -0.4], {"combination_type": "magnitude_prune", "density": 0.3}),
    "magnitude_prune_svd": (["a", "b"], [0.7, -0.4], {"combination_type": "magnitude_prune_svd", "density": 0.5}),
}


class Layers(nn.Module):
    """A linear layer, an embedding and a convolution: the kinds of modules that LoRA has forms for."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.dense = nn.Linear(8, 6)
        self.image = nn.Conv2d(2, 4, (2, 3))


def tensors_of(model: nn.Module, adapter: str) -> dict[str, torch.Tensor]:
    state = get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)
    return {name.removeprefix("base_model.model."): tensor for name, tensor in state.items()}


def make() -> None:
    torch.manual_seed(900)
    modules = ["words", "dense", "image"]
    settings = {name: LoraConfig(**{"target_modules": modules, **options}) for name, options in CONFIGS.items()}
    model = get_peft_model(Layers(), settings["a"], adapter_name="a")
    for name in ("b", "wide"):
        model.add_adapter(name, settings[name])
    source = generator(900)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=source))
    out = {f"{adapter}.{name}": tensor for adapter in CONFIGS for name, tensor in tensors_of(model, adapter).items()}
    for run, (adapters, weights, options) in RUNS.items():
        model.add_weighted_adapter(adapters, weights, run, **options)
        if options["combination_type"].endswith("svd"):
            for module in modules:
                layer = getattr(model.base_model.model, module)
                if run in {*layer.lora_A, *layer.lora_embedding_A}:
                    out[f"{run}.{module}.product"] = layer.get_delta_weight(run)
        else:
            out |= {f"{run}.{name}": tensor for name, tensor in tensors_of(model, run).items()}
    save_tensors(GOLDEN / "combine.safetensors", {name: tensor.contiguous() for name, tensor in out.items()})
    runs = {
        run: {"adapters": adapters, "weights": weights, **options} for run, (adapters, weights, options) in RUNS.items()
    }
    save_json(GOLDEN / "combine.json", {"adapters": {k: {"target_modules": modules, **v} for k, v in CONFIGS.items()}, "runs": runs})
