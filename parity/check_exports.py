"""Exports every architecture of generators/architectures.py and writes what is needed to judge the exports.

    python parity/check_exports.py <folder> [--only name,name] [--kinds torchscript17,dynamo]

Per architecture: <folder>/<name>/{golden.safetensors, golden.json, model_<kind>.onnx}; `failures.json` lists exports that PyTorch refused.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from generators import architectures, common, exports  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Exports tiny models of many architectures.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--kinds", default="torchscript14,torchscript17,dynamo")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    common.GOLDEN = arguments.folder
    names = arguments.only.split(",") if arguments.only else list(architectures.architectures())
    failures: dict[str, str] = {}
    for name in names:
        folder = arguments.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            exports.golden(name, folder)
        except Exception as error:  # noqa: BLE001 - the table names it
            failures[name] = f"{type(error).__name__}: {str(error)[:200]}"
            continue
        for kind in arguments.kinds.split(","):
            try:
                model = exports.export(name, kind)
                (folder / f"model_{kind}.onnx").write_bytes(model.SerializeToString(deterministic=True))
                print(f"  {name} {kind} {len(model.graph.node)} nodes", flush=True)
            except Exception as error:  # noqa: BLE001
                failures[f"{name}/{kind}"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
                print(f"  {name} {kind} FAILED {failures[f'{name}/{kind}']}", flush=True)
    (arguments.folder / "failures.json").write_text(json.dumps(failures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
