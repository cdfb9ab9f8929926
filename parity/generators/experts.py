"""LoRA of peft on parameters that hold the matrices of several experts (`target_parameters`): golden/experts/<model>/.

model_<export>.onnx is the model before, in the forms that exporters give the experts: a product with the matrices that are picked for every token,
a loop over experts, a product with all of them. adapter/ is peft's; golden.safetensors holds an input, both outputs, a gradient of the output and
the gradients of the adapter's tensors under their names in the file.
"""

import io
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import torch
from onnx.reference import ReferenceEvaluator
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import GptOssConfig, Llama4TextConfig, MixtralConfig, MixtralForCausalLM
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP
from transformers.models.llama4.modeling_llama4 import Llama4TextMoe

from .adapters import randomise_trained, tidy
from .common import GOLDEN, generator, randomise, save_tensors
from .onnx_exports import without_paths

FOLDER = GOLDEN / "experts"
SIZES = dict(vocab_size=16, hidden_size=8, intermediate_size=6, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
ROUTED = dict(num_local_experts=3, num_experts_per_tok=2)
BOTH = ["experts.gate_up_proj", "experts.down_proj"]


class Mixtral(MixtralForCausalLM):
    """input_ids [batch, tokens] to logits: a whole language model, its parameters [experts, out, in]."""

    def __init__(self) -> None:
        super().__init__(MixtralConfig(**SIZES, **ROUTED, attn_implementation="eager", use_cache=False))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits


class Layer(nn.Module):
    """x [batch, tokens, 8] through one mixture of experts, around which the residual stream goes."""

    def __init__(self, experts: nn.Module, config: object) -> None:
        super().__init__()
        self.config = config
        self.mlp = experts
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x + self.mlp(x)[0].reshape(x.shape))


def gpt_oss() -> nn.Module:
    """Parameters [experts, in, out] with biases, and a class that says so."""
    config = GptOssConfig(**SIZES, **ROUTED, head_dim=4)
    return Layer(GptOssMLP(config), config)


def llama4() -> nn.Module:
    """Parameters [experts, in, out] of a class that does not say so: all tokens through all experts."""
    config = Llama4TextConfig(**SIZES, num_local_experts=3, head_dim=4)
    return Layer(Llama4TextMoe(config), config)


@dataclass
class Case:
    make: Callable[[], nn.Module]
    adapter: LoraConfig
    """The exports, and how transformers computes the experts in them."""
    exports: dict[str, tuple[str, str | None]]


PICKED = {"torchscript": ("torchscript", "batched_mm"), "loop": ("torchscript", "eager"), "dynamo": ("dynamo", "batched_mm")}
CASES = {
    "mixtral": Case(
        Mixtral,
        LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], target_parameters=BOTH, rank_pattern={"experts.down_proj": 3}),
        PICKED,
    ),
    "gpt-oss": Case(
        gpt_oss,
        LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=[], target_parameters=["mlp.experts.down_proj"]),
        PICKED,
    ),
    "llama4": Case(
        llama4,
        LoraConfig(r=2, lora_alpha=4, target_modules=[], target_parameters=BOTH, alpha_pattern={"gate_up_proj": 5}),
        {"torchscript": ("torchscript", None), "dynamo": ("dynamo", None)},
    ),
}


def base(name: str) -> nn.Module:
    model = CASES[name].make()
    randomise(model, 900)
    return model.eval()


def example(name: str, seed: int, batch: int = 2) -> torch.Tensor:
    """Enough tokens that every expert is asked: a loop is exported for those that are."""
    if name == "mixtral":
        return torch.randint(0, 16, (batch, 9), generator=generator(seed))
    return torch.randn(batch, 9, 8, generator=generator(seed))


def exported(name: str, exporter: str, experts: str | None) -> onnx.ModelProto:
    model = base(name)
    if experts is not None:
        model.config._experts_implementation = experts
    inputs = example(name, 901)
    given = "input_ids" if name == "mixtral" else "x"
    common = dict(input_names=[given], output_names=["logits"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=32)},)
            found = torch.onnx.export(model, (inputs,), dynamic_shapes=shapes, opset_version=18, external_data=False, verbose=False, dynamo=True, **common).model_proto
        else:
            target = io.BytesIO()
            axes = {0: "batch", 1: "tokens"}
            torch.onnx.export(model, (inputs,), target, dynamic_axes={given: axes, "logits": axes}, opset_version=17, dynamo=False, **common)
            found = onnx.load_from_string(target.getvalue())
    without_paths(found)
    inputs = example(name, 902, 3)
    with torch.no_grad():
        expected = base(name)(inputs).numpy()
    result = ReferenceEvaluator(found).run(None, {given: inputs.numpy()})[0]
    difference = abs(result - expected).max()
    if not difference < 1e-5:
        raise ValueError(f"{name}, {exporter}, {experts}: differs from PyTorch by {difference:.1e}")
    return found


def make() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, case in CASES.items():
        folder = FOLDER / name
        folder.mkdir(parents=True)
        for file, (exporter, experts) in case.exports.items():
            path = folder / f"model_{file}.onnx"
            path.write_bytes(exported(name, exporter, experts).SerializeToString(deterministic=True))
            print(f"  experts/{name}/{path.name}  {path.stat().st_size:,} bytes", flush=True)
        torch.manual_seed(910)
        model = get_peft_model(base(name), case.adapter)
        randomise_trained(model, 910)
        model.eval()
        inputs = example(name, 911)
        logits = model(inputs)
        d_logits = torch.randn(logits.shape, generator=generator(912))
        logits.backward(d_logits)
        gradients = {key.replace(".default", ""): value.grad for key, value in model.named_parameters() if value.grad is not None}
        with torch.no_grad(), model.disable_adapter():
            base_logits = model(inputs)
        model.save_pretrained(folder / "adapter", save_embedding_layers=False)
        tidy(folder / "adapter")
        again = PeftModel.from_pretrained(base(name), folder / "adapter").eval()
        with torch.no_grad():
            torch.testing.assert_close(again(inputs), logits, rtol=0, atol=0)
            merged = again.merge_and_unload()
            torch.testing.assert_close(merged(inputs), logits, rtol=1e-5, atol=1e-5)
        golden = {"input": inputs, "output.logits": logits, "base.logits": base_logits, "gradient.logits": d_logits}
        golden |= {f"gradient.{key}": value for key, value in gradients.items()}
        save_tensors(folder / "golden.safetensors", golden)
