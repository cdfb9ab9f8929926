"""Adapters of peft that route by the task of each row: golden/poly/<name>/."""

import shutil

import peft
import torch
from peft import PeftModel, get_peft_model

from .adapters import BASE, tidy
from .common import GOLDEN, save_tensors
from .inputs import make_inputs, model_inputs
from .methods import randomise
from .models import load

TARGETS = ["query", "intermediate.dense"]
CONFIGS = {
    "poly": peft.PolyConfig(r=4, n_tasks=3, n_skills=3, target_modules=TARGETS),
    "poly-splits": peft.PolyConfig(r=3, n_tasks=3, n_skills=2, n_splits=4, target_modules=TARGETS),
}


def make() -> None:
    shutil.rmtree(GOLDEN / "poly", ignore_errors=True)
    for number, (name, config) in enumerate(CONFIGS.items()):
        folder = GOLDEN / "poly" / name
        torch.manual_seed(800 + number)
        config.base_model_name_or_path = BASE
        model = get_peft_model(load(BASE), config)
        # Logits far from zero, or all tasks mix the same.
        randomise(model, 1.0, 800 + number)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "module_logits" in key:
                    parameter.mul_(20)
        model.eval()
        inputs = model_inputs(BASE, make_inputs(BASE, 810))
        tasks = torch.tensor([2, 0, 1, 2, 2, 0])
        with torch.no_grad():
            logits = model.base_model(**inputs, task_ids=tasks).logits
            base_logits = load(BASE).eval()(**inputs).logits
        model.save_pretrained(folder, save_embedding_layers=False)
        tidy(folder)
        again = PeftModel.from_pretrained(load(BASE), folder).eval()
        with torch.no_grad():
            torch.testing.assert_close(again.base_model(**inputs, task_ids=tasks).logits, logits, rtol=0, atol=1e-6, msg=name)
        golden = {f"input.{key}": value for key, value in inputs.items()} | {"input.poly.task_ids": tasks}
        save_tensors(folder / "golden.safetensors", golden | {"output.logits": logits, "base.logits": base_logits})
