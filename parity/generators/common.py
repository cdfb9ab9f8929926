"""What several parts share: paths, seeded weights, writing files."""

import json
import re
from pathlib import Path

import numpy
import peft
import torch
import transformers
from safetensors.numpy import save_file

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
MODELS = GOLDEN / "models"

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def versions() -> dict[str, str]:
    return {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "peft": peft.__version__}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def is_norm(name: str) -> bool:
    """True for parameters of layer and RMS norms in all the architectures used here."""
    return any(part in name.lower() for part in ("layernorm", "layer_norm", "ln_", "norm.weight"))


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Gives every parameter weights that make a mistake visible: no zero bias, no norm weight of one, rows of the padding token included."""
    source = generator(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=source)
            if is_norm(name) and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            elif "embed" in name or "wte" in name or "wpe" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(0.18 * noise)


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: numpy.ascontiguousarray(tensor.detach().cpu().numpy()) for name, tensor in sorted(tensors.items())}
    save_file(arrays, path)
    print(f"  {path.parent.name}/{path.name}  {path.stat().st_size:,} bytes, {len(arrays)} tensors", flush=True)


def save_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False)
    # Lists of plain values on one line each.
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: "[" + re.sub(r",\s+", ", ", found[1]) + "]", text)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"  {path.parent.name}/{path.name}  {path.stat().st_size:,} bytes", flush=True)


def relative_difference(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    """|found - exact| / |exact| over all tensors as one vector."""
    a = torch.cat([found[name].double().flatten() for name in sorted(exact)])
    b = torch.cat([exact[name].double().flatten() for name in sorted(exact)])
    return float((a - b).norm() / b.norm())
