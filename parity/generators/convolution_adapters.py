"""LoRA of peft on convolutions of all ranks, with groups: golden/convolutions/.

model.onnx is the model before, the adapter folder is peft's, golden.safetensors holds an input, both outputs, a gradient
of the output and the gradients of the adapter's tensors.
"""

import io
import shutil

import onnx
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from .adapters import randomise_trained, tidy
from .common import GOLDEN, generator, randomise, save_tensors

FOLDER = GOLDEN / "convolutions"
CONFIG = LoraConfig(
    r=4,
    lora_alpha=6,
    target_modules=["volume", "image", "grouped", "point", "line", "head"],
    rank_pattern={"point": 2},
    alpha_pattern={"line": 3},
)


class Convolutions(nn.Module):
    """Volumes [batch, 2, 2, 7, 6] through convolutions of three, two and one axes to [batch, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.volume = nn.Conv3d(2, 4, (2, 3, 2), padding=(0, 1, 1))
        self.image = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0))
        self.grouped = nn.Conv2d(6, 8, 3, padding=1, groups=2, bias=False)
        self.point = nn.Conv2d(8, 4, 1)
        self.line = nn.Conv1d(4, 5, 3, padding=1, stride=2)
        self.head = nn.Linear(5, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.volume(pixels)).squeeze(2)
        x = torch.tanh(self.image(x))
        x = torch.tanh(self.grouped(x))
        x = torch.tanh(self.point(x))
        x = torch.tanh(self.line(x.flatten(2)))
        return self.head(x.mean(-1))


def base() -> Convolutions:
    torch.manual_seed(800)
    model = Convolutions()
    randomise(model, 800)
    return model.eval()


def export(model: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    target = io.BytesIO()
    axes = {"pixels": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(model, (example,), target, input_names=["pixels"], output_names=["logits"], dynamic_axes=axes, opset_version=17, dynamo=False)
    return onnx.load_from_string(target.getvalue())


def make() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    pixels = torch.randn(2, 2, 2, 7, 6, generator=generator(801))
    onnx.save(export(base(), pixels[:1]), FOLDER / "model.onnx")
    torch.manual_seed(802)
    model = get_peft_model(base(), CONFIG)
    randomise_trained(model, 802)
    model.eval()
    logits = model(pixels)
    d_logits = torch.randn(logits.shape, generator=generator(803))
    logits.backward(d_logits)
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    with torch.no_grad(), model.disable_adapter():
        base_logits = model(pixels)
    model.save_pretrained(FOLDER)
    tidy(FOLDER)
    again = PeftModel.from_pretrained(base(), FOLDER).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(pixels), logits, rtol=0, atol=0)
    golden = {"input.pixels": pixels, "output.logits": logits, "base.logits": base_logits, "gradient.logits": d_logits}
    golden |= {f"gradient.{name.replace('.default', '')}": value for name, value in gradients.items()}
    save_tensors(FOLDER / "golden.safetensors", golden)
