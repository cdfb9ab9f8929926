"""Tiny random models of architectures beyond the text models of `models.py`: what they are, and what they are fed.

One table for everything that exports models: the golden exports (`exports.py`) and the sweep (`check_exports.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers as hf

from .common import generator, randomise
from .inputs import make_inputs
from .models import TINY

Tensors = dict[str, torch.Tensor]
VOCABULARY = 120
TEXT = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=48,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
# Decoders call their dropout by other names, and must not return a cache.
DECODER = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    max_position_embeddings=48,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    attention_dropout=0.0,
    use_cache=False,
)
VISION = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    image_size=16,
    patch_size=8,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
SEQ2SEQ = dict(
    vocab_size=VOCABULARY,
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    max_position_embeddings=48,
    dropout=0.0,
    pad_token_id=1,
    bos_token_id=0,
    eos_token_id=2,
    decoder_start_token_id=2,
    use_cache=False,
)


@dataclass(frozen=True)
class Architecture:
    """`make` builds the model without weights of its own; `inputs` draws a batch of the given size and length."""

    make: Callable[[], torch.nn.Module]
    inputs: Callable[[torch.Generator, int, int], Tensors]
    outputs: tuple[str, ...]
    seed: int
    # Axes of the inputs that vary, by input; batch is always axis 0. An input that is not named varies in its batch alone.
    tokens: tuple[str, ...] = ()
    length: int = 9
    # The gradient of every parameter is asked for beside LoRA's: for models whose weight is not in linear layers.
    full: bool = False
    # Ends of linear layers that peft refuses to adapt, or adapts without effect.
    without_lora: tuple[str, ...] = ()


def text(source: torch.Generator, batch: int, tokens: int) -> Tensors:
    """Token ids and a mask with padding on the right, the first row full."""
    lengths = torch.cat([torch.tensor([tokens]), torch.randint(max(1, tokens // 2), tokens + 1, (batch - 1,), generator=source)])
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids = torch.randint(3, VOCABULARY, (batch, tokens), generator=source)
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def pixels(size: int, channels: int = 3) -> Callable[[torch.Generator, int, int], Tensors]:
    return lambda source, batch, _: {"pixel_values": torch.randn((batch, channels, size, size), generator=source)}


def pixels_and_mask(size: int) -> Callable[[torch.Generator, int, int], Tensors]:
    def draw(source: torch.Generator, batch: int, _: int) -> Tensors:
        return pixels(size)(source, batch, _) | {"pixel_mask": torch.ones((batch, size, size), dtype=torch.int64)}

    return draw


def features(bins: int, frames: int, name: str = "input_features") -> Callable[[torch.Generator, int, int], Tensors]:
    return lambda source, batch, _: {name: torch.randn((batch, bins, frames), generator=source)}


def spectrogram(frames: int, bins: int) -> Callable[[torch.Generator, int, int], Tensors]:
    return lambda source, batch, _: {"input_values": torch.randn((batch, frames, bins), generator=source)}


def waveform(source: torch.Generator, batch: int, samples: int) -> Tensors:
    return {"input_values": torch.randn((batch, samples), generator=source)}


def text_and_pixels(size: int, mask: bool = True) -> Callable[[torch.Generator, int, int], Tensors]:
    def draw(source: torch.Generator, batch: int, tokens: int) -> Tensors:
        found = text(source, batch, tokens) | pixels(size)(source, batch, tokens)
        if not mask:
            del found["attention_mask"]
            found["input_ids"] = torch.randint(3, VOCABULARY, (batch, tokens), generator=source)
        return found

    return draw


def sequence_pair(source: torch.Generator, batch: int, tokens: int) -> Tensors:
    return text(source, batch, tokens) | {"decoder_input_ids": torch.randint(3, VOCABULARY, (batch, tokens - 2), generator=source)}


IDS = ("input_ids", "attention_mask")
PAIR = (*IDS, "decoder_input_ids")


def encoder(model: type, config: type, seed: int, **options: Any) -> Architecture:
    return Architecture(lambda: model(config(**(TEXT | options))), text, ("last_hidden_state",), seed, IDS)


def decoder(model: type, config: type, seed: int, base: dict[str, Any] = DECODER, **options: Any) -> Architecture:
    return Architecture(lambda: model(config(**(base | options))), text, ("logits",), seed, IDS)


def vision(model: type, config: type, seed: int, size: int = 16, output: str = "last_hidden_state", **options: Any) -> Architecture:
    return Architecture(lambda: model(config(**options)), pixels(size), (output,), seed)


def seq2seq(model: type, config: type, seed: int, **options: Any) -> Architecture:
    return Architecture(lambda: model(config(**(SEQ2SEQ | options))), sequence_pair, ("logits",), seed, PAIR)


def audio(model: type, config: type, seed: int, **options: Any) -> Architecture:
    base = dict(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16, 16),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        mask_time_prob=0.0,
    )
    return Architecture(lambda: model(config(**(base | options))), waveform, ("logits",), seed, ("input_values",), length=400)


T5 = dict(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_decoder_layers=2, num_heads=4, dropout_rate=0.0, use_cache=False, pad_token_id=0, decoder_start_token_id=0)  # noqa: E501
WHISPER = dict(
    vocab_size=VOCABULARY,
    num_mel_bins=8,
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    max_source_positions=20,
    max_target_positions=20,
    dropout=0.0,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
    decoder_start_token_id=1,
    use_cache=False,
)
TOWER = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, attention_dropout=0.0)
CLIP_TEXT = TOWER | dict(vocab_size=VOCABULARY, max_position_embeddings=48, projection_dim=16, pad_token_id=1, bos_token_id=0, eos_token_id=2)
CLIP_VISION = TOWER | dict(image_size=16, patch_size=8, projection_dim=16)
RESNET = dict(num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)


ARCHITECTURES: dict[str, Architecture] = {
    # The architectures that parity is promised for.
    "vit": vision(hf.ViTForImageClassification, hf.ViTConfig, 31, output="logits", **VISION, num_labels=3),
    "clip": Architecture(
        lambda: hf.CLIPModel(hf.CLIPConfig(text_config=CLIP_TEXT, vision_config=CLIP_VISION, projection_dim=16)),
        text_and_pixels(16),
        ("logits_per_image", "text_embeds", "image_embeds"),
        32,
        IDS,
    ),
    "resnet": Architecture(lambda: hf.ResNetForImageClassification(hf.ResNetConfig(**RESNET)), pixels(32), ("logits",), 33, full=True),
    "whisper-encoder": Architecture(
        lambda: hf.WhisperModel(hf.WhisperConfig(**WHISPER)).get_encoder(), features(8, 40), ("last_hidden_state",), 34
    ),
    "t5-encoder": Architecture(lambda: hf.T5EncoderModel(hf.T5Config(**T5)), text, ("last_hidden_state",), 35, IDS),
    "t5": Architecture(lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)), sequence_pair, ("logits",), 36, PAIR),
    # Others, to find out how general the engine is.
    "albert": encoder(hf.AlbertModel, hf.AlbertConfig, 41, embedding_size=16),
    "deberta-v2": encoder(
        hf.DebertaV2Model,
        hf.DebertaV2Config,
        42,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
    ),
    "electra": encoder(hf.ElectraModel, hf.ElectraConfig, 43, embedding_size=16),
    "mpnet": encoder(hf.MPNetModel, hf.MPNetConfig, 44, pad_token_id=1, bos_token_id=0, eos_token_id=2),
    "modernbert": encoder(
        hf.ModernBertModel, hf.ModernBertConfig, 45, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2, local_attention=8
    ),
    "camembert": encoder(hf.CamembertModel, hf.CamembertConfig, 46, pad_token_id=1, bos_token_id=0, eos_token_id=2, max_position_embeddings=50),
    "convbert": encoder(hf.ConvBertModel, hf.ConvBertConfig, 47, embedding_size=32),
    "roformer": encoder(hf.RoFormerModel, hf.RoFormerConfig, 48, embedding_size=32),
    "squeezebert": encoder(hf.SqueezeBertModel, hf.SqueezeBertConfig, 49, embedding_size=32),
    "mobilebert": encoder(
        hf.MobileBertModel, hf.MobileBertConfig, 50, embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16, num_feedforward_networks=2
    ),
    "esm": encoder(hf.EsmModel, hf.EsmConfig, 51, pad_token_id=1, position_embedding_type="rotary", token_dropout=False, mask_token_id=4),
    "xlnet": Architecture(
        lambda: hf.XLNetModel(hf.XLNetConfig(vocab_size=VOCABULARY, d_model=32, n_layer=2, n_head=4, d_inner=64, dropout=0.0, use_mems_eval=False)),
        text,
        ("last_hidden_state",),
        52,
        IDS,
    ),
    "qwen2": decoder(hf.Qwen2ForCausalLM, hf.Qwen2Config, 53),
    "qwen3": decoder(hf.Qwen3ForCausalLM, hf.Qwen3Config, 54, head_dim=8),
    "gemma": decoder(hf.GemmaForCausalLM, hf.GemmaConfig, 55, head_dim=8),
    "gemma2": decoder(hf.Gemma2ForCausalLM, hf.Gemma2Config, 56, head_dim=8, query_pre_attn_scalar=8, sliding_window=4),
    "gemma3": decoder(hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, 57, head_dim=8, query_pre_attn_scalar=8, sliding_window=4),
    "mistral": decoder(hf.MistralForCausalLM, hf.MistralConfig, 58, sliding_window=None),
    "phi": decoder(hf.PhiForCausalLM, hf.PhiConfig, 59, num_key_value_heads=4, resid_pdrop=0.0, embd_pdrop=0.0),
    "phi3": decoder(hf.Phi3ForCausalLM, hf.Phi3Config, 60, resid_pdrop=0.0, embd_pdrop=0.0),
    "smollm3": decoder(hf.SmolLM3ForCausalLM, hf.SmolLM3Config, 61),
    "olmo": decoder(hf.OlmoForCausalLM, hf.OlmoConfig, 62),
    "stablelm": decoder(hf.StableLmForCausalLM, hf.StableLmConfig, 63, hidden_dropout=0.0),
    "cohere": decoder(hf.CohereForCausalLM, hf.CohereConfig, 64),
    "granite": decoder(hf.GraniteForCausalLM, hf.GraniteConfig, 65),
    "starcoder2": decoder(hf.Starcoder2ForCausalLM, hf.Starcoder2Config, 66, residual_dropout=0.0, embedding_dropout=0.0),
    "gpt-neox": decoder(hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, 67, hidden_dropout=0.0),
    "opt": decoder(
        hf.OPTForCausalLM,
        hf.OPTConfig,
        68,
        dict(
            vocab_size=VOCABULARY,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=48,
            dropout=0.0,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            use_cache=False,
        ),
    ),
    "bloom": decoder(
        hf.BloomForCausalLM,
        hf.BloomConfig,
        69,
        dict(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, hidden_dropout=0.0, attention_dropout=0.0, use_cache=False),
    ),
    "falcon": decoder(
        hf.FalconForCausalLM,
        hf.FalconConfig,
        70,
        dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, hidden_dropout=0.0, attention_dropout=0.0, use_cache=False),
    ),
    "mamba": Architecture(
        lambda: hf.MambaForCausalLM(
            hf.MambaConfig(vocab_size=VOCABULARY, hidden_size=16, state_size=4, num_hidden_layers=2, time_step_rank=4, use_cache=False, use_mambapy=False)
        ),
        text,
        ("logits",),
        71,
        IDS,
        without_lora=("out_proj",),
    ),
    "bart": seq2seq(hf.BartForConditionalGeneration, hf.BartConfig, 72),
    "marian": seq2seq(hf.MarianMTModel, hf.MarianConfig, 73),
    "m2m": seq2seq(hf.M2M100ForConditionalGeneration, hf.M2M100Config, 74),
    "dinov2": vision(hf.Dinov2Model, hf.Dinov2Config, 75, **(VISION | dict(mlp_ratio=2))),
    "deit": vision(hf.DeiTForImageClassification, hf.DeiTConfig, 76, output="logits", **VISION, num_labels=3),
    "beit": vision(
        hf.BeitForImageClassification, hf.BeitConfig, 77, output="logits", **VISION, num_labels=3, use_relative_position_bias=True, drop_path_rate=0.0
    ),
    "convnext": vision(hf.ConvNextModel, hf.ConvNextConfig, 78, 32, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=4, drop_path_rate=0.0),
    "convnextv2": vision(
        hf.ConvNextV2Model, hf.ConvNextV2Config, 79, 32, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=4, drop_path_rate=0.0
    ),
    "swin": vision(
        hf.SwinModel, hf.SwinConfig, 80, 16, image_size=16, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4, drop_path_rate=0.0
    ),
    "segformer": vision(
        hf.SegformerForSemanticSegmentation,
        hf.SegformerConfig,
        81,
        32,
        "logits",
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout_prob=0.0,
        drop_path_rate=0.0,
        num_labels=3,
    ),
    "mobilevit": vision(
        hf.MobileViTModel,
        hf.MobileViTConfig,
        82,
        64,
        image_size=64,
        hidden_sizes=[16, 16, 16],
        neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 16],
        num_attention_heads=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    "efficientnet": vision(
        hf.EfficientNetModel,
        hf.EfficientNetConfig,
        83,
        32,
        image_size=32,
        width_coefficient=0.25,
        depth_coefficient=0.3,
        hidden_dim=320,
        dropout_rate=0.0,
        drop_connect_rate=0.0,
    ),
    "mobilenet-v2": vision(hf.MobileNetV2Model, hf.MobileNetV2Config, 84, 32, image_size=32, depth_multiplier=0.1, min_depth=4),
    "regnet": vision(hf.RegNetModel, hf.RegNetConfig, 85, 32, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4, layer_type="y"),
    "poolformer": vision(
        hf.PoolFormerModel,
        hf.PoolFormerConfig,
        86,
        32,
        depths=[1, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        padding=[2, 1],
        num_encoder_blocks=2,
        drop_path_rate=0.0,
    ),
    "pvt": vision(
        hf.PvtModel,
        hf.PvtConfig,
        87,
        32,
        image_size=32,
        num_encoder_blocks=2,
        depths=[1, 1],
        sequence_reduction_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[4, 2],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        drop_path_rate=0.0,
        hidden_dropout_prob=0.0,
    ),
    "levit": vision(
        hf.LevitModel,
        hf.LevitConfig,
        88,
        64,
        image_size=64,
        hidden_sizes=[16, 16, 16],
        num_attention_heads=[2, 2, 2],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
        mlp_ratio=[2, 2, 2],
        attention_ratio=[2, 2, 2],
        drop_path_rate=0,
        down_ops=[["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 2, 4, 2, 2]],
    ),
    "hiera": vision(
        hf.HieraModel,
        hf.HieraConfig,
        89,
        32,
        embed_dim=8,
        image_size=[32, 32],
        depths=[1, 1],
        num_heads=[1, 2],
        masked_unit_size=[4, 4],
        query_stride=[2, 2],
        num_query_pool=1,
        masked_unit_attention=[True, False],
        mlp_ratio=2.0,
    ),
    "dpt": vision(
        hf.DPTForDepthEstimation,
        hf.DPTConfig,
        90,
        32,
        "predicted_depth",
        **(VISION | dict(image_size=32, num_hidden_layers=4)),
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_factors=[1, 1, 1, 0.5],
        is_hybrid=False,
    ),
    "detr": Architecture(
        lambda: hf.DetrForObjectDetection(
            hf.DetrConfig(
                use_timm_backbone=False,
                backbone=None,
                backbone_config=hf.ResNetConfig(**RESNET, out_features=["stage2"]),
                d_model=32,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=64,
                decoder_ffn_dim=64,
                num_queries=5,
                dropout=0.0,
            )
        ),
        pixels_and_mask(32),
        ("logits", "pred_boxes"),
        91,
    ),
    "yolos": vision(
        hf.YolosForObjectDetection,
        hf.YolosConfig,
        92,
        32,
        "logits",
        **(VISION | dict(image_size=[32, 32])),
        num_detection_tokens=4,
        use_mid_position_embeddings=False,
        num_labels=3,
    ),
    "siglip": Architecture(
        lambda: hf.SiglipModel(
            hf.SiglipConfig(
                text_config=TOWER | dict(vocab_size=VOCABULARY, max_position_embeddings=48, projection_size=32),
                vision_config=TOWER | dict(image_size=16, patch_size=8),
            )
        ),
        text_and_pixels(16, mask=False),
        ("logits_per_image",),
        93,
        ("input_ids",),
    ),
    "wav2vec2": audio(hf.Wav2Vec2ForCTC, hf.Wav2Vec2Config, 94),
    "wav2vec2-stable": audio(hf.Wav2Vec2ForCTC, hf.Wav2Vec2Config, 95, do_stable_layer_norm=True, feat_extract_norm="layer"),
    "hubert": audio(hf.HubertForCTC, hf.HubertConfig, 96),
    # Its attention reads the weights of its linear layers and never calls them: in PyTorch an adapter there has no effect.
    "wavlm": replace(audio(hf.WavLMForCTC, hf.WavLMConfig, 97), without_lora=("q_proj", "k_proj", "v_proj", "out_proj")),
    "ast": Architecture(
        lambda: hf.ASTForAudioClassification(
            hf.ASTConfig(**(VISION | dict(patch_size=4)), frequency_stride=4, time_stride=4, max_length=16, num_mel_bins=8, num_labels=3)
        ),
        spectrogram(16, 8),
        ("logits",),
        98,
    ),
    "whisper": Architecture(
        lambda: hf.WhisperForConditionalGeneration(hf.WhisperConfig(**WHISPER)),
        lambda source, batch, tokens: features(8, 40)(source, batch, tokens)
        | {"decoder_input_ids": torch.randint(3, VOCABULARY, (batch, tokens), generator=source)},
        ("logits",),
        99,
        ("decoder_input_ids",),
    ),
    "torch-transformer": Architecture(
        lambda: torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 2, enable_nested_tensor=False
        ),
        lambda source, batch, tokens: {"src": torch.randn((batch, tokens, 16), generator=source)},
        ("output",),
        100,
        ("src",),
        full=True,
    ),
}


def known_text(name: str) -> Architecture:
    """One of the text models of `models.py` as an entry of this table."""
    tiny = TINY[name]
    output = "last_hidden_state" if tiny.task == "embedding" else "logits"

    def draw(source: torch.Generator, batch: int, tokens: int) -> Tensors:
        drawn = make_inputs(name, int(torch.randint(1 << 30, (1,), generator=source)), (tokens,) * (batch - 1) + (tokens // 2,))
        return {key: drawn[key] for key in tiny.inputs}

    return Architecture(lambda: tiny.model_class(tiny.config), draw, (output,), tiny.seed, tiny.inputs)


def architectures() -> dict[str, Architecture]:
    return {name: known_text(name) for name in TINY} | ARCHITECTURES


def build(name: str) -> torch.nn.Module:
    """The model with random weights, in evaluation mode."""
    architecture = architectures()[name]
    torch.manual_seed(architecture.seed)
    model = architecture.make().float()
    randomise(model, architecture.seed)
    source = generator(architecture.seed + 1)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):  # statistics of a fresh one, 0 and 1, would hide mistakes
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=source))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=source))
    return model.eval()


def draw(name: str, seed: int, batch: int, length: int | None = None) -> Tensors:
    architecture = architectures()[name]
    return architecture.inputs(generator(seed), batch, length or architecture.length)
