"""Adapter folders of every type of peft at linear layers, embeddings and norms: golden/methods/<name>/, as adapters.py makes them."""

import shutil
import warnings

import peft
import torch
from peft import PeftConfig, PeftModel, get_peft_model

from .adapters import BASE, tidy
from .common import GOLDEN, generator, save_tensors
from .inputs import make_inputs, model_inputs
from .models import load

SQUARE = ["query", "value"]
# [32, 32] and [64, 32]: neither square nor all of one shape.
MIXED = ["query", "intermediate.dense"]
# [32, 32] and [32, 64].
WIDE = ["query", "output.dense"]

CONFIGS: dict[str, PeftConfig] = {
    "dora": peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=[*MIXED, "output.dense"]),
    "lora-bias": peft.LoraConfig(r=4, lora_alpha=8, lora_bias=True, target_modules=SQUARE),
    "lora-embedding": peft.LoraConfig(r=4, lora_alpha=8, target_modules=["word_embeddings", "query"]),
    "adalora": peft.AdaLoraConfig(init_r=6, target_r=3, total_step=100, lora_alpha=8, target_modules=MIXED),
    "vera": peft.VeraConfig(r=6, target_modules=MIXED, projection_prng_key=3),
    "vera-unsaved": peft.VeraConfig(r=6, target_modules=SQUARE, projection_prng_key=5, save_projection=False),
    "ia3": peft.IA3Config(target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]),
    "loha": peft.LoHaConfig(r=3, alpha=5, target_modules=MIXED),
    "lokr": peft.LoKrConfig(r=3, alpha=5, target_modules=MIXED),
    "lokr-both": peft.LoKrConfig(r=2, alpha=4, decompose_both=True, decompose_factor=8, target_modules=MIXED),
    "oft": peft.OFTConfig(r=0, oft_block_size=8, target_modules=WIDE),
    "oft-exact": peft.OFTConfig(r=4, oft_block_size=0, use_cayley_neumann=False, target_modules=WIDE),
    "oft-shared": peft.OFTConfig(r=0, oft_block_size=8, block_share=True, coft=True, eps=1e-3, target_modules=WIDE),
    "boft": peft.BOFTConfig(boft_block_size=4, target_modules=WIDE),
    "hra": peft.HRAConfig(r=4, target_modules=MIXED),
    "hra-gs": peft.HRAConfig(r=4, apply_GS=True, target_modules=MIXED),
    "hira": peft.HiraConfig(r=4, target_modules=MIXED),
    "shira": peft.ShiraConfig(r=2, random_seed=7, target_modules=MIXED),
    "miss": peft.MissConfig(r=5, target_modules=MIXED),
    "miss-bat": peft.MissConfig(r=8, init_weights="bat", target_modules=MIXED),
    "miss-mini": peft.MissConfig(r=8, mini_r=4, init_weights="mini", target_modules=MIXED),
    "gralora": peft.GraloraConfig(r=8, hybrid_r=2, gralora_k=4, alpha=16, target_modules=MIXED),
    "c3a": peft.C3AConfig(block_size=16, target_modules=MIXED),
    "fourierft": peft.FourierFTConfig(n_frequency=20, scaling=15.0, target_modules=MIXED),
    "waveft": peft.WaveFTConfig(n_frequency=20, scaling=3.0, target_modules=MIXED),
    "road-1": peft.RoadConfig(variant="road_1", group_size=16, target_modules=MIXED),
    "road-2": peft.RoadConfig(variant="road_2", group_size=16, target_modules=MIXED),
    "road-4": peft.RoadConfig(variant="road_4", group_size=16, target_modules=MIXED),
    "delora": peft.DeloraConfig(r=4, delora_lambda=6, target_modules=MIXED),
    "glora": peft.GloraConfig(r=4, target_modules=MIXED),
    "glora-vector": peft.GloraConfig(r=4, config_A_B="vector", config_C="lora", config_D_E="vector", target_modules=MIXED),
    "psoft": peft.PsoftConfig(r=6, psoft_alpha=6, target_modules=MIXED),
    "randlora": peft.RandLoraConfig(r=4, randlora_alpha=20, projection_prng_key=3, target_modules=SQUARE),
    "vblora": peft.VBLoRAConfig(r=4, num_vectors=12, vector_length=8, topk=2, target_modules=SQUARE),
    "vblora-topk": peft.VBLoRAConfig(r=4, num_vectors=12, vector_length=8, topk=2, save_only_topk_weights=True, target_modules=SQUARE),
    "beft": peft.BeftConfig(target_modules=["value"]),
    "lily": peft.LilyConfig(r=4, target_modules=SQUARE),
    "pvera": peft.PveraConfig(r=6, target_modules=SQUARE),
    "unilora": peft.UniLoraConfig(r=4, theta_d_length=64, target_modules=SQUARE),
    "tinylora": peft.TinyLoraConfig(r=2, u=6, target_modules=SQUARE),
    "frod": peft.FrodConfig(target_modules=SQUARE),
    "trainable-tokens": peft.TrainableTokensConfig(token_indices=[8, 12, 25, 50, 61], target_modules=["word_embeddings"]),
    "psoft-series": peft.PsoftConfig(
        r=6, psoft_alpha=9, ab_svd_init="pissa_init", psoft_mag_a=False, use_cayley_neumann=True, cayley_neumann_eps=0.3, target_modules=MIXED
    ),
    "psoft-free": peft.PsoftConfig(r=4, psoft_alpha=4, psoft_orth=False, psoft_mag_b=False, target_modules=MIXED),
    "oft-three-terms": peft.OFTConfig(r=0, oft_block_size=8, num_cayley_neumann_terms=3, target_modules=WIDE),
    "pvera-unsaved": peft.PveraConfig(r=5, target_modules=MIXED, projection_prng_key=5, save_projection=False),
    "unilora-unequal": peft.UniLoraConfig(r=3, theta_d_length=50, proj_seed=7, target_modules=[*MIXED, "output.dense"]),
    "unilora-saved": peft.UniLoraConfig(r=3, theta_d_length=50, proj_seed=7, save_indices=True, target_modules=MIXED),
    "lily-shared": peft.LilyConfig(r=3, stride_A=2, num_B=3, scaling=2.0, target_modules=[*MIXED, "output.dense"]),
    "dora-embedding": peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=["word_embeddings", "query"]),
    "hira-embedding": peft.HiraConfig(r=4, target_modules=["word_embeddings", "query"]),
    "oft-embedding": peft.OFTConfig(r=0, oft_block_size=8, target_modules=["word_embeddings", "query"]),
    "tinylora-embedding": peft.TinyLoraConfig(r=2, u=6, target_modules=["word_embeddings", "query"]),
    "frod-wide": peft.FrodConfig(sparse_rate=0.1, projection_prng_key=3, target_modules=WIDE),
}

# What the noise on trained tensors is multiplied by, where 0.1 would be lost or too much.
NOISE = {"fourierft": 20.0, "waveft": 5.0, "c3a": 10.0, "lora-embedding": 3.0}


def randomise(model: PeftModel, scale: float, seed: int) -> None:
    """Moves everything the adapter trains away from where it starts."""
    source = generator(seed)
    with torch.no_grad():
        for _, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.add_(0.1 * scale * torch.randn(parameter.shape, generator=source))


def make() -> None:
    shutil.rmtree(GOLDEN / "methods", ignore_errors=True)
    for number, (name, config) in enumerate(CONFIGS.items()):
        folder = GOLDEN / "methods" / name
        torch.manual_seed(500 + number)
        config.base_model_name_or_path = BASE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(load(BASE), config)
        randomise(model, NOISE.get(name, 1.0), 500 + number)
        model.eval()
        inputs = model_inputs(BASE, make_inputs(BASE, 310))
        with torch.no_grad():
            logits = model(**inputs).logits
            base_logits = load(BASE).eval()(**inputs).logits
        model.save_pretrained(folder, save_embedding_layers=False)
        tidy(folder)
        # What lies on the disk must give the same logits.
        again = PeftModel.from_pretrained(load(BASE), folder).eval()
        with torch.no_grad():
            torch.testing.assert_close(again(**inputs).logits, logits, rtol=0, atol=1e-6, msg=name)
        golden = {f"input.{key}": value for key, value in inputs.items()} | {"output.logits": logits, "base.logits": base_logits}
        save_tensors(folder / "golden.safetensors", golden)
