"""A text encoder of transformers and a diffusion transformer of diffusers in front of each other: golden/diffusion.safetensors."""

import torch
from diffusers import PixArtTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel

from .common import GOLDEN, generator, randomise, save_tensors

TEXT, HIDDEN, HEADS, TOKENS = 24, 32, 2, 16


def make() -> None:
    torch.manual_seed(0)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=20, hidden_size=TEXT, intermediate_size=4 * TEXT, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=TOKENS, hidden_act="gelu", projection_dim=TEXT,
        )
    ).eval()
    denoiser = PixArtTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=HIDDEN // HEADS, in_channels=3, out_channels=3, num_layers=2,
        cross_attention_dim=HIDDEN, sample_size=32, patch_size=8, caption_channels=TEXT, use_additional_conditions=False,
        interpolation_scale=1,
    ).eval()
    randomise(text, 900)
    randomise(denoiser, 901)
    source = generator(902)
    inputs = {
        "sample": torch.randn(3, 3, 32, 32, generator=source),
        "timestep": torch.tensor([3.0, 250.0, 999.0]),
        "input_ids": torch.randint(1, 20, (3, TOKENS), generator=source),
        "attention_mask": (torch.arange(TOKENS) < torch.tensor([[16], [5], [1]])).long(),
    }
    with torch.no_grad():
        states = text(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        output = denoiser(
            inputs["sample"], encoder_hidden_states=states, encoder_attention_mask=inputs["attention_mask"], timestep=inputs["timestep"]
        ).sample
    weights = {name: value for model in (text, denoiser) for name, value in model.state_dict().items() if "position_ids" not in name and name != "pos_embed.pos_embed"}
    tensors = {f"weight.{name}": value for name, value in weights.items()} | {f"input.{name}": value for name, value in inputs.items()}
    save_tensors(GOLDEN / "diffusion.safetensors", tensors | {"output.states": states, "output.out_sample": output})
