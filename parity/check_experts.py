"""Loads adapters of experts made here into peft, over the models of generators/experts.py, and compares logits: see check_experts.mjs.

    python parity/check_experts.py <folder with an adapter folder and <name>.safetensors for every model>
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from check_adapter import unused_tensors  # noqa: E402
from peft import PeftModel  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from generators.experts import CASES, base  # noqa: E402

TOLERANCE = 1e-5


def check(name: str, folder: Path) -> bool:
    tensors = load_file(folder / f"{name}.safetensors")
    model = PeftModel.from_pretrained(base(name), folder / name).eval()
    with torch.no_grad():
        found = model(tensors["input"])
        effect = (found - base(name)(tensors["input"])).abs().max().item()
    difference = (found - tensors["output.logits"]).abs().max().item()
    unused = unused_tensors(model, folder / name)
    ok = difference <= TOLERANCE and effect > 0 and not unused
    print(f"{'ok' if ok else 'FAILED'} {name}: largest difference {difference:.3g}, effect of the adapter {effect:.3g}", flush=True)
    if unused:
        print(f"not taken over by peft: {', '.join(unused)}")
    return ok


if __name__ == "__main__":
    torch.set_num_threads(1)
    results = [check(name, Path(sys.argv[1])) for name in CASES]
    sys.exit(0 if all(results) else 1)
