"""Outputs, losses and gradients of every tiny model, plain and with LoRA: golden/<name>.safetensors and .json."""

import copy

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model

from .common import GOLDEN, generator, is_norm, relative_difference, save_json, save_tensors, versions
from .inputs import make_inputs, model_inputs
from .models import TINY, load

Tensors = dict[str, torch.Tensor]

LORA = dict(r=4, lora_alpha=8, lora_dropout=0.0)
TEMPERATURE = 0.05

WORDS = {
    "sequence": "mean over the rows of the cross-entropy of logits [batch, 3] and labels [batch]",
    "token": "mean over labelled tokens (labels other than -100) of the cross-entropy of logits [batch, tokens, 3]",
    "causal": "mean over labels[:, 1:] other than -100 of the cross-entropy of logits[:, :-1] (next token)",
    "embedding": (
        "rows are averaged over real tokens and normalised to length 1; rows 0-2 are anchors, rows 3-5 their positives; "
        "mean over anchors of the cross-entropy of anchor . positives / 0.05 against the own positive"
    ),
}


def mean_pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weight = mask.to(hidden.dtype).unsqueeze(-1)
    return F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


def run(model: torch.nn.Module, name: str, inputs: Tensors) -> tuple[torch.Tensor, Tensors]:
    """The loss and the named outputs of one forward pass."""
    result = model(**model_inputs(name, inputs))
    task = TINY[name].task
    if task == "embedding":
        pooled = mean_pooled(result.last_hidden_state, inputs["attention_mask"])
        anchors, positives = pooled.chunk(2)
        loss = F.cross_entropy(anchors @ positives.T / TEMPERATURE, torch.arange(len(anchors)))
        outputs = {"last_hidden_state": result.last_hidden_state, "pooler_output": result.pooler_output, "sentence_embedding": pooled}
        return loss, outputs
    logits, labels = result.logits, inputs["labels"]
    if task == "causal":
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    else:
        loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=-100)
    # The models' own loss must say the same (some compute it in float32 whatever the type of the model is).
    own = model(**model_inputs(name, inputs), labels=labels).loss
    torch.testing.assert_close(loss, own, rtol=1e-5, atol=1e-5, check_dtype=False)
    return loss, {"logits": logits}


def with_lora(name: str, seed: int) -> torch.nn.Module:
    """The tiny model with a LoRA adapter whose B is not zero, so that the gradients of A are not zero either."""
    config = LoraConfig(**LORA, target_modules=list(TINY[name].targets), fan_in_fan_out=name == "gpt2")
    model = get_peft_model(load(name), config)
    source = generator(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=source) * (0.15 if "lora_B" in key else 0.3))
    return model.eval()


def peft_key(parameter: str) -> str:
    """The name under which peft saves a parameter: without the adapter's name."""
    return parameter.replace(".default", "")


def adapter_of(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {peft_key(key): parameter for key, parameter in model.named_parameters() if "lora_" in key}


def gradients_of(model: torch.nn.Module, name: str, inputs: Tensors, wanted: dict[str, torch.nn.Parameter]) -> Tensors:
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is other for other in wanted.values()))
    loss, _ = run(model, name, inputs)
    # A parameter that the loss does not reach (the pooler of the embedding model) has gradient zero.
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(wanted, found, strict=True))


def groups_of(model: torch.nn.Module) -> dict[str, dict[str, torch.nn.Parameter]]:
    parameters = dict(model.named_parameters())
    head = ("classifier.", "pre_classifier.", "score.")
    return {
        "bitfit": {key: value for key, value in parameters.items() if key.endswith("bias")},
        "norm": {key: value for key, value in parameters.items() if is_norm(key)},
        "head": {key: value for key, value in parameters.items() if key.startswith(head)},
        "full": parameters,
    }


def measure(name: str, inputs: Tensors, double: bool) -> Tensors:
    """Everything of one model in float32, or in float64 to know how exact the float32 numbers are."""
    def cast(model: torch.nn.Module) -> torch.nn.Module:
        return copy.deepcopy(model).double() if double else model

    plain, adapted = cast(load(name)), cast(with_lora(name, TINY[name].seed + 200))
    tensors: Tensors = {}
    for prefix, model in (("", plain), ("lora.", adapted)):
        with torch.no_grad():
            loss, outputs = run(model, name, inputs)
        tensors[f"{prefix}loss"] = loss.reshape(1)
        tensors |= {f"{prefix}output.{key}": value for key, value in outputs.items()}
    adapter = adapter_of(adapted)
    tensors |= {f"lora.adapter.{key}": value for key, value in adapter.items()}
    tensors |= {f"lora.grad.{key}": value for key, value in gradients_of(adapted, name, inputs, adapter).items()}
    for group, parameters in groups_of(plain).items():
        if parameters:
            tensors |= {f"{group}.grad.{key}": value for key, value in gradients_of(plain, name, inputs, parameters).items()}
    return tensors


def make() -> None:
    for name, tiny in TINY.items():
        inputs = make_inputs(name, tiny.seed + 100)
        found, exact = measure(name, inputs, double=False), measure(name, inputs, double=True)
        prefixes = sorted({key.split(".grad.")[0] for key in found if ".grad." in key})
        noise = {
            prefix: relative_difference(
                {key: value for key, value in found.items() if key.startswith(f"{prefix}.grad.")},
                {key: value for key, value in exact.items() if key.startswith(f"{prefix}.grad.")},
            )
            for prefix in prefixes
        }
        tensors = found | {f"input.{key}": value for key, value in inputs.items()}
        save_tensors(GOLDEN / f"{name}.safetensors", tensors)
        save_json(
            GOLDEN / f"{name}.json",
            {
                "model": f"models/{name}",
                "class": tiny.model_class.__name__,
                "task": tiny.task,
                "inputs": list(tiny.inputs),
                "loss_function": WORDS[tiny.task],
                "loss": found["loss"].item(),
                "lora": {
                    "config": {"peft_type": "LORA", **LORA, "target_modules": list(tiny.targets), "fan_in_fan_out": name == "gpt2"},
                    "loss": found["lora.loss"].item(),
                },
                "gradient_groups": {
                    prefix: {
                        "norm_of_all": float(torch.cat([v.flatten() for k, v in found.items() if k.startswith(f"{prefix}.grad.")]).norm()),
                        "relative_difference_float32_to_float64": noise[prefix],
                    }
                    for prefix in prefixes
                },
                "versions": versions(),
            },
        )
