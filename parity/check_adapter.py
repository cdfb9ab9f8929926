"""Loads an adapter folder into peft and compares its logits with those stored beside it.

    python parity/check_adapter.py --base <model> --adapter <adapter folder> ... [--golden <file>] [--tolerance 1e-5] [--report <file>]

The model is a folder with config.json and model.safetensors, whose class is taken from `architectures`, or one that a generator makes:
convolutions, convolution-methods. The golden file (default
golden.safetensors in the adapter folder) holds `input.<name>` for every input of the model and `output.logits` (or
`output.last_hidden_state`). Prints the largest absolute difference; exit code 1 when it exceeds the tolerance, when a tensor of the
file was not used, or when the adapter changes nothing.
"""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402
from peft import PeftConfig, PeftModel, get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


# Modules of generators/ with a model of their own.
GENERATED = {"convolutions": "convolution_adapters", "convolution-methods": "convolution_methods"}


def load_base(name: str) -> torch.nn.Module:
    if name in GENERATED:
        return importlib.import_module(f"generators.{GENERATED[name]}").base()
    folder = Path(name)
    config = transformers.AutoConfig.from_pretrained(folder)
    model_class = getattr(transformers, config.architectures[0])
    return model_class.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()


def result_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor], output: str) -> torch.Tensor:
    """Models of transformers name their outputs, those of generators have one."""
    found = model(**inputs)
    return found if isinstance(found, torch.Tensor) else found[output]


def load_adapter(base: torch.nn.Module, folder: Path) -> PeftModel:
    """The model with the adapter. Of an X-LoRA peft wants to be told where the experts are, and that they are called by their numbers."""
    config = PeftConfig.from_pretrained(folder)
    if config.peft_type != "XLORA":
        return PeftModel.from_pretrained(base, folder)
    base.config.use_cache = False
    config.adapters = {str(number): str(folder / name) for number, name in enumerate(config.adapters)}
    return PeftModel.from_pretrained(base, folder, config=config)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for rounding: peft keeps the shares of VB-LoRA's chosen vectors as logits."""
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=1e-6, atol=1e-7)


def unused_tensors(model: PeftModel, folder: Path) -> list[str]:
    """Tensors of the adapter file that peft did not take over: it drops keys it does not know with no more than a warning."""
    if model.active_peft_config.peft_type == "XLORA":
        # get_peft_model_state_dict of 0.21 leaves out layers that have the number of an expert.
        loaded = model.state_dict()
    else:
        loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    saved = load_file(folder / "adapter_model.safetensors")
    return sorted(key for key, value in saved.items() if key not in loaded or not same(loaded[key], value))


def merges_first(model: PeftModel) -> bool:
    """peft's forward of OFT adds overlapping patches of a convolution up, which no new adapter leaves as it is; its merged weights are OFT's."""
    kernels = [getattr(layer, "kernel_size", (1,)) for name, layer in model.named_modules() if name.endswith(".base_layer")]
    return model.active_peft_config.peft_type == "OFT" and any(size > 1 for kernel in kernels for size in kernel)


def check(base: str, adapter: Path, golden: Path, tolerance: float) -> dict[str, object]:
    """What loading one adapter gave: the largest difference, the adapter's effect, tensors that were not used."""
    tensors = load_file(golden)
    inputs = {key.removeprefix("input."): value for key, value in tensors.items() if key.startswith("input.")}
    output = "logits" if "output.logits" in tensors else "last_hidden_state"
    expected = tensors[f"output.{output}"]

    model = load_adapter(load_base(base), adapter).eval()
    unused = unused_tensors(model, adapter)
    if merges_first(model):
        model = model.merge_and_unload()
    with torch.no_grad():
        found = result_of(model, inputs, output)
        # A model of its own: peft cannot switch prompts of a classifier off.
        without = result_of(load_base(base), {key: value for key, value in inputs.items() if key != "task_ids"}, output)
    if found.shape != expected.shape:
        print(f"FAILED {adapter.name}: {output} have shape {list(found.shape)} in peft, {list(expected.shape)} in the file")
        return {"ok": False, "problem": "shapes differ"}
    difference = (found - expected).abs().max().item()
    effect = (found - without).abs().max().item()
    # "not <=" so that NaN fails.
    failed = not difference <= tolerance or effect == 0 or bool(unused)
    print(
        f"{'FAILED' if failed else 'ok'} {adapter.name}: largest difference {difference:.3g} "
        f"(allowed {tolerance:g}), effect of the adapter {effect:.3g}",
        flush=True,
    )
    if unused:
        print(f"not taken over by peft: {', '.join(unused)}")
    return {"ok": not failed, "difference": float(f"{difference:.2g}"), "effect": float(f"{effect:.2g}")}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares the logits of adapters in peft with stored ones.")
    parser.add_argument("--base", required=True, help="model folder: config.json and model.safetensors; or convolutions, convolution-methods")
    parser.add_argument("--adapter", type=Path, required=True, nargs="+", help="adapter folders: adapter_config.json and adapter_model.safetensors")
    parser.add_argument("--golden", type=Path, help="inputs and logits of the one adapter; default: golden.safetensors in its folder, or <folder>.safetensors beside it")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest absolute difference allowed")
    parser.add_argument("--report", type=Path, help="JSON file for the results by folder")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)

    results: dict[str, dict[str, object]] = {}
    for adapter in arguments.adapter:
        inside, beside = adapter / "golden.safetensors", adapter.with_name(f"{adapter.name}.safetensors")
        golden = arguments.golden or (inside if inside.exists() else beside)
        try:
            results[str(adapter)] = check(arguments.base, adapter, golden, arguments.tolerance)
        except Exception as error:  # noqa: BLE001 (one adapter that peft refuses must not hide the others)
            if arguments.report is None:
                raise
            print(f"FAILED {adapter.name}: {error}", flush=True)
            results[str(adapter)] = {"ok": False, "problem": str(error).splitlines()[0][:200]}
    if arguments.report is not None:
        arguments.report.write_text(json.dumps(results), encoding="utf-8")
    return 0 if all(result["ok"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
