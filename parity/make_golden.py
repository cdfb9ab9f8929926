"""Makes everything under parity/golden/ again: python parity/make_golden.py [part ...]

Parts are the keys of PARTS below. Without an argument all of them, in this order.
Same versions (requirements.txt), same machine type: same bytes.
"""

import os
import sys

# Before torch is imported: one thread, and one code path of MKL, so that sums are added in the same order every time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from generators import (  # noqa: E402
    adapters,
    combine,
    convolution_adapters,
    convolution_methods,
    curve,
    density,
    diffusion,
    experts,
    exports,
    fused,
    gradients,
    kinks,
    linalg,
    lora_fa,
    losses,
    methods,
    models,
    module_adapters,
    names,
    onnx_exports,
    optimizers,
    papers,
    poly,
    prompts,
    quantized,
    qwha_start,
    routers,
    spatial,
    starts,
    tri_adapt,
)

PARTS = {
    "models": models.make,
    "onnx": onnx_exports.make,
    "gradients": gradients.make,
    "exports": exports.make,
    "fused": fused.make,
    "names": names.make,
    "adapters": adapters.make,
    "methods": methods.make,
    "module-adapters": module_adapters.make,
    "poly": poly.make,
    "prompts": prompts.make,
    "curve": curve.make,
    "losses": losses.make,
    "density": density.make,
    "diffusion": diffusion.make,
    "optimizers": optimizers.make,
    "lora-fa": lora_fa.make,
    "kinks": kinks.make,
    "quantized": quantized.make,
    "spatial": spatial.make,
    "convolutions": convolution_adapters.make,
    "experts": experts.make,
    "convolution-methods": convolution_methods.make,
    "linalg": linalg.make,
    "combine": combine.make,
    "routers": routers.make,
    "papers": papers.make,
    "tri-adapt": tri_adapt.make,
    "starts": starts.make,
    "qwha-start": qwha_start.make,
}


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        sys.exit(f"Unknown part {', '.join(unknown)}; known: {' '.join(PARTS)}")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in PARTS:
        if name in wanted:
            print(f"{name}:", flush=True)
            PARTS[name]()


if __name__ == "__main__":
    main()
