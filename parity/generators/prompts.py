"""Adapter folders of peft's prompt methods over tiny encoders and decoders: golden/prompts/<base>-<name>/, as adapters.py makes them.

Trained tensors are moved from their start; what an encoder makes (P-tuning, a projected prefix) is in the file as peft writes it. Logits are those of
the real tokens: where virtual ones lengthen the sequence of a decoder, the first `num_virtual_tokens` rows are left out. Multitask prompts come with
`input.task_ids`.
"""

import shutil
import warnings

import peft
import torch
from peft import PeftConfig, PeftModel, get_peft_model

from .adapters import tidy
from .common import GOLDEN, generator, save_tensors
from .inputs import make_inputs, model_inputs
from .models import TINY, load

LENGTHS = (7, 3, 5)
V = 4

CONFIGS: dict[str, PeftConfig] = {
    "prefix": peft.PrefixTuningConfig(num_virtual_tokens=V),
    "prefix-projection": peft.PrefixTuningConfig(num_virtual_tokens=V, prefix_projection=True, encoder_hidden_size=12),
    "prompt": peft.PromptTuningConfig(num_virtual_tokens=V),
    "p-tuning": peft.PromptEncoderConfig(num_virtual_tokens=V, encoder_hidden_size=12),
    "p-tuning-lstm": peft.PromptEncoderConfig(num_virtual_tokens=V, encoder_hidden_size=12, encoder_reparameterization_type="LSTM"),
    "multitask": peft.MultitaskPromptTuningConfig(num_virtual_tokens=V, num_tasks=3, num_ranks=2),
    "adaption": peft.AdaptionPromptConfig(adapter_len=V, adapter_layers=1),
}

BASES = {
    "bert": ("prefix", "prefix-projection", "prompt", "p-tuning", "p-tuning-lstm", "multitask"),
    "roberta": ("prefix", "prompt"),
    "gpt2": ("prefix", "prompt", "multitask", "adaption"),
    "llama": ("prefix", "prefix-projection", "prompt", "p-tuning", "adaption"),
}
TASKS = {"sequence": "SEQ_CLS", "causal": "CAUSAL_LM"}
LONGER = {"PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING"}


def randomise(model: PeftModel, seed: int) -> None:
    """Moves what the adapter trains: prompts to the size of the tiny models' embeddings, gates and heads by less."""
    source = generator(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=source)
            if "prefix_task" in name:
                parameter.copy_(0.8 * noise)
            elif "gate" in name:
                parameter.copy_(0.5 + 0.1 * noise)
            elif "prompt" in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.add_(0.1 * noise)


def logits(model: PeftModel, inputs: dict[str, torch.Tensor], longer: bool) -> torch.Tensor:
    with torch.no_grad():
        found = model(**inputs).logits
    return found[:, V:] if longer and found.ndim == 3 else found


def make() -> None:
    shutil.rmtree(GOLDEN / "prompts", ignore_errors=True)
    for number, (base, name) in enumerate((base, name) for base, names in BASES.items() for name in names):
        folder = GOLDEN / "prompts" / f"{base}-{name}"
        torch.manual_seed(700 + number)
        config = type(CONFIGS[name])(**CONFIGS[name].to_dict())
        config.task_type = TASKS[TINY[base].task]
        config.base_model_name_or_path = base
        longer = config.peft_type in LONGER
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(load(base), config)
            randomise(model, 700 + number)
            model.eval()
            inputs = model_inputs(base, make_inputs(base, 710, LENGTHS))
            given = inputs | ({"task_ids": torch.tensor([2, 0, 1])} if name == "multitask" else {})
            found = logits(model, given, longer)
            model.save_pretrained(folder, save_embedding_layers=False)
            tidy(folder)
            # What lies on the disk must give the same logits.
            again = PeftModel.from_pretrained(load(base), folder).eval()
            torch.testing.assert_close(logits(again, given, longer), found, rtol=0, atol=5e-6, msg=lambda text: f"{base} {name}: {text}")
            with torch.no_grad():
                base_logits = load(base).eval()(**inputs).logits
        golden = {f"input.{key}": value for key, value in given.items()} | {"output.logits": found, "base.logits": base_logits}
        save_tensors(folder / "golden.safetensors", golden)
