"""Makes everything under parity/golden/optimum/ again: python parity/make_optimum.py [name ...]

Needs an environment of its own (requirements-optimum.txt): Optimum's exporter wants an older transformers than the rest of parity/.
"""

import os
import sys

if os.environ.get("PYTHONHASHSEED") != "0":  # Optimum names shared weights in the order of a set
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from generators import optimum_exports  # noqa: E402

if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in optimum_exports.CASES]
    if unknown:
        sys.exit(f"Unknown model {', '.join(unknown)}; known: {' '.join(optimum_exports.CASES)}")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    optimum_exports.make(sys.argv[1:])
