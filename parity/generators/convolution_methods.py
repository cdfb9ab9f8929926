"""Adapter folders of peft's methods at convolutions: golden/convolution-methods/<name>/, as methods.py makes them, and model.onnx before them."""

import shutil
import warnings

import onnx
import peft
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn

from .adapters import tidy
from .common import GOLDEN, generator, randomise as randomise_all, save_tensors
from .convolution_adapters import export
from .methods import randomise

FOLDER = GOLDEN / "convolution-methods"

ALL = ["image", "square", "grouped", "point", "line"]
# Without dilation, which peft leaves out where it makes convolutions of its own.
PLAIN = ["volume", "square", "point", "line"]

CONFIGS: dict[str, PeftConfig] = {
    "loha": peft.LoHaConfig(r=3, alpha=5, target_modules=ALL),
    "loha-cores": peft.LoHaConfig(r=2, alpha=3, use_effective_conv2d=True, target_modules=ALL),
    "lokr": peft.LoKrConfig(r=3, alpha=5, target_modules=ALL),
    "lokr-split": peft.LoKrConfig(r=2, alpha=3, decompose_factor=1, target_modules=ALL),
    "lokr-both": peft.LoKrConfig(r=1, alpha=2, decompose_both=True, decompose_factor=4, target_modules=ALL),
    "lokr-cores": peft.LoKrConfig(r=2, alpha=3, decompose_factor=1, use_effective_conv2d=True, target_modules=ALL),
    "dora": peft.LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=PLAIN),
    "lora-bias": peft.LoraConfig(r=2, lora_alpha=3, lora_bias=True, target_modules=PLAIN),
    "hra": peft.HRAConfig(r=4, target_modules=["square", "point"]),
    "hra-gs": peft.HRAConfig(r=3, apply_GS=True, target_modules=["square", "point"]),
    "ia3": peft.IA3Config(target_modules=["volume", "image", "square", "grouped", "point"], feedforward_modules=["image", "grouped"]),
    "hira": peft.HiraConfig(r=2, target_modules=["volume", "image", "square", "point", "line"]),
    "oft": peft.OFTConfig(r=0, oft_block_size=4, target_modules=["point"]),
    "oft-square": peft.OFTConfig(r=0, oft_block_size=6, use_cayley_neumann=False, target_modules=["square"]),
    "boft": peft.BOFTConfig(boft_block_size=2, target_modules=["square", "point"]),
    "adalora": peft.AdaLoraConfig(init_r=3, target_r=2, total_step=100, lora_alpha=8, target_modules=["image", "square", "point"]),
}

# peft's forward of OFT adds overlapping patches up where a kernel has several places, which no new adapter leaves as it is; its merged weights are OFT's.
MERGED = {"oft-square"}
WITH_GRADIENTS = {"dora"}
# What the noise on trained tensors is multiplied by; five where nothing stands here.
NOISE = {"lora-bias": 2.0, "lokr-cores": 8.0, "lokr-both": 8.0, "hira": 10.0, "adalora": 10.0, "loha-cores": 10.0}


class Convolutions(nn.Module):
    """Volumes [batch, 2, 2, 7, 6] through convolutions of three, two and one axes to [batch, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.volume = nn.Conv3d(2, 4, (2, 3, 2), padding=(0, 1, 1))
        self.image = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))
        self.square = nn.Conv2d(6, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
        self.point = nn.Conv2d(8, 4, 1)
        self.line = nn.Conv1d(4, 6, 3, padding=1, stride=2)
        self.head = nn.Linear(6, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.volume(pixels)).squeeze(2)
        x = torch.tanh(self.image(x))
        x = torch.tanh(self.square(x))
        x = torch.tanh(self.grouped(x))
        x = torch.tanh(self.point(x))
        x = torch.tanh(self.line(x.flatten(2)))
        return self.head(x.mean(-1))


def base() -> Convolutions:
    torch.manual_seed(850)
    model = Convolutions()
    randomise_all(model, 850)
    return model.eval()


def output_of(model: PeftModel, name: str, pixels: torch.Tensor) -> torch.Tensor:
    return (model.merge_and_unload() if name in MERGED else model)(pixels)


def make() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    pixels = torch.randn(2, 2, 2, 7, 6, generator=generator(851))
    onnx.save(export(base(), pixels[:1]), FOLDER / "model.onnx")
    base_logits = base()(pixels).detach()
    for number, (name, config) in enumerate(CONFIGS.items()):
        folder = FOLDER / name
        torch.manual_seed(860 + number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(base(), config)
        randomise(model, NOISE.get(name, 5.0), 860 + number)
        model.eval()
        model.save_pretrained(folder)
        tidy(folder)
        golden = {"input.pixels": pixels, "base.logits": base_logits}
        if name in WITH_GRADIENTS:
            logits = model(pixels)
            golden["gradient.logits"] = torch.randn(logits.shape, generator=generator(852))
            logits.backward(golden["gradient.logits"])
            golden |= {f"gradient.{key.replace('.default', '')}": value.grad for key, value in model.named_parameters() if value.grad is not None}
        with torch.no_grad():
            golden["output.logits"] = output_of(model, name, pixels)
            # What lies on the disk must give the same logits.
            again = PeftModel.from_pretrained(base(), folder).eval()
            torch.testing.assert_close(output_of(again, name, pixels), golden["output.logits"], rtol=0, atol=1e-6, msg=name)
            if name not in MERGED:
                merged = again.merge_and_unload()(pixels)
                print(f"  {name}: merged by peft {float((merged - golden['output.logits']).abs().max()):.1e}, effect {float((golden['output.logits'] - base_logits).abs().max()):.2f}")
        save_tensors(folder / "golden.safetensors", golden)
