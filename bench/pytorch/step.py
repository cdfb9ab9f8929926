"""Times one complete LoRA training step of PyTorch + peft and prints one JSON line.

    python bench/pytorch/step.py --shape mini|base [--dtype float32|bfloat16] [--micro 4] [--compile]
        [--device cuda] [--tf32] [--dropout 0.1]

A step is forward, loss, backward, AdamW and zeroing of the gradients, in training mode with dropout 0.1, on
BertForSequenceClassification with embeddings, pooler and head; LoRA r 8 on query and value, the head trained as well.
Run each configuration in a process of its own: peak memory is that of the whole process.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

SHAPES = {
    # MiniLM-L6
    "mini": {"batch": 16, "tokens": 128, "config": dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)},
    # BERT-base
    "base": {"batch": 8, "tokens": 128, "config": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times one LoRA training step of PyTorch + peft.")
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16: autocast of the forward pass")
    parser.add_argument("--micro", type=int, help="samples of a backward pass; default: the whole batch")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tf32", action="store_true", help="products of float32 rounded to TF32, on a GPU")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--info", action="store_true", help="also print how torch was built")
    return parser.parse_args()


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_mb() -> float:
    """Highest resident memory of this process. ru_maxrss starts at the size of the parent that forked it, VmHWM does not."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / (1024 * 1024 if platform.system() == "Darwin" else 1024)


def cuda_library_mb() -> float:
    """Resident memory of CUDA libraries, which the default build of torch loads on a machine without a GPU as well."""
    total, counts = 0, False
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        return 0.0
    for line in maps.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):
            path = fields[5] if len(fields) > 5 else ""
            counts = any(part in path for part in ("/nvidia/", "torch_cuda", "c10_cuda", "/triton/", "/cuda/"))
        elif counts and fields[0] == "Rss:":
            total += int(fields[1])
    return total / 1024


def main() -> None:
    arguments = parse()
    # Before torch is imported, so that its thread pools have this size from the start.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(arguments.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import peft
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arguments.tf32
    shape = SHAPES[arguments.shape]
    batch, tokens = shape["batch"], shape["tokens"]
    micro = arguments.micro or batch
    imported_mb = peak_mb()

    config = BertConfig(
        vocab_size=30522,
        num_labels=2,
        hidden_dropout_prob=arguments.dropout,
        attention_probs_dropout_prob=arguments.dropout,
        attn_implementation=arguments.attention,
        **shape["config"],
    )
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = get_peft_model(BertForSequenceClassification(config), lora).train().to(arguments.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    run = torch.compile(model) if arguments.compile else model

    ids = torch.randint(0, 30522, (batch, tokens)).to(arguments.device)
    mask = torch.ones_like(ids)
    labels = torch.randint(0, 2, (batch,)).to(arguments.device)

    def step() -> float:
        total = 0.0
        for rows, row_mask, answers in zip(ids.split(micro), mask.split(micro), labels.split(micro), strict=True):
            with torch.autocast(arguments.device, dtype=torch.bfloat16, enabled=arguments.dtype == "bfloat16"):
                loss = run(input_ids=rows, attention_mask=row_mask, labels=answers).loss * (len(answers) / batch)
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        return total

    elapsed = []
    for number in range(arguments.warmup + arguments.steps):
        start = time.perf_counter()
        loss = step()
        if number >= arguments.warmup:
            elapsed.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(elapsed)
    result = {
        "engine": "pytorch",
        "shape": arguments.shape,
        "batch": batch,
        "tokens": tokens,
        "micro": micro,
        "dtype": arguments.dtype,
        "attention": arguments.attention,
        "compiled": arguments.compile,
        "threads": arguments.threads,
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "tf32": arguments.tf32,
        "trainable_parameters": sum(parameter.numel() for parameter in trained),
        "step_ms_median": round(median, 1),
        "step_ms_min": round(min(elapsed), 1),
        "step_ms_all": [round(value, 1) for value in elapsed],
        "tokens_per_second": round(batch * tokens / median * 1e3, 1),
        "peak_mb": round(peak_mb(), 1),
        "peak_mb_without_cuda": round(peak_mb() - cuda_library_mb(), 1),
        "peak_mb_after_import": round(imported_mb, 1),
        "device_peak_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if arguments.device == "cuda" else None,
        "loss": round(loss, 4),
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if arguments.info:
        print(torch.__config__.show())
        print(torch.__config__.parallel_info())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
