"""What merging adds to app.engine.lora: the products of an adapter's matrices."""

import re

from safetensors import safe_open
from torch import Tensor

from app.engine.lora import WEIGHTS_FILE, LoraAdapter


def scale(adapter: LoraAdapter, weight: str, rank: int) -> float:
    """What B·A is multiplied by, as PEFT has it."""
    module = weight.removesuffix(".weight")
    alpha = adapter.config["lora_alpha"]
    for pattern, value in (adapter.config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha / (rank**0.5 if adapter.config.get("use_rslora") else rank))


def delta(adapter: LoraAdapter, weight: str) -> Tensor:
    """What the adapter adds to the base's weight [out, in], in float32."""
    stem = "base_model.model." + weight.removesuffix(".weight")
    with safe_open(adapter.folder / WEIGHTS_FILE, "pt") as tensors:
        a = tensors.get_tensor(f"{stem}.lora_A.weight").float()
        b = tensors.get_tensor(f"{stem}.lora_B.weight").float()
    product: Tensor = (b @ a) * scale(adapter, weight, a.shape[0])
    return product.T if adapter.config.get("fan_in_fan_out") else product
