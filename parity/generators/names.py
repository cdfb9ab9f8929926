"""Module names of transformers 5 beside those that its checkpoints on the hub have: golden/names.json.

`save_pretrained` writes the names of the hub, which are those of transformers 4; the modules carry the new ones. Tensors are
matched by their contents.
"""

import tempfile

import torch
from safetensors.torch import load_file

from .architectures import build
from .common import GOLDEN, save_json, versions

RENAMED = ("vit", "deit", "beit", "ast", "dinov2", "swin", "segformer", "detr", "gpt-neox")
SAME = ("bert", "distilbert", "gpt2", "llama", "yolos", "dpt", "clip", "whisper-encoder", "wav2vec2", "t5-encoder", "convnext", "resnet")
NAMES = RENAMED + SAME

def weights(tensors: dict[str, torch.Tensor]) -> dict[bytes, str]:
    """Module path by the contents of its weight; contents that several have (statistics of a fresh norm) say nothing."""
    paths: dict[bytes, list[str]] = {}
    for key, value in tensors.items():
        if key.endswith(".weight"):
            paths.setdefault(value.contiguous().numpy().tobytes(), []).append(key.removesuffix(".weight"))
    return {contents: found[0] for contents, found in paths.items() if len(found) == 1}


def pairs(model: torch.nn.Module) -> list[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = weights(load_file(f"{folder}/model.safetensors"))
    own = weights(model.state_dict())
    return [[saved[contents], path] for contents, path in own.items() if contents in saved]


def make() -> None:
    named = {name: [" = ".join(dict.fromkeys(pair)) for pair in pairs(build(name))] for name in NAMES}
    save_json(GOLDEN / "names.json", {"models": named, "versions": versions()})
