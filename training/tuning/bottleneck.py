"""Bottleneck adapters: after each feed-forward block, a narrow detour of two small matrices.

From Pfeiffer et al. 2021 (AdapterFusion), after Houlsby et al. 2019. The code is our own because
the `adapters` library (1.3.0, its newest) needs transformers 4.57, and vLLM and the rest need 5.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from training.errors import TrainingError
from training.folders import read_json

CONFIG_FILE = "bottleneck.json"
WEIGHTS_FILE = "bottleneck.safetensors"


class Bottleneck(nn.Module):
    """y + up(gelu(down(y))), where y is the wrapped block's output [..., hidden]."""

    def __init__(self, block: nn.Module, hidden: int, size: int) -> None:
        super().__init__()
        self.block = block
        weight = next(block.parameters())
        self.down = nn.Linear(hidden, size, device=weight.device)
        self.up = nn.Linear(size, hidden, device=weight.device)
        nn.init.zeros_(self.up.weight)  # training starts at the base model
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        output: Tensor = self.block(states)
        detour = self.up(nn.functional.gelu(self.down(output.to(self.down.weight.dtype))))
        result: Tensor = output + detour.to(output.dtype)
        return result


def insert(model: PreTrainedModel, size: int) -> None:
    """Freeze the model and put a trainable bottleneck of `size` after each layer's `mlp`.

    Raises TrainingError for a model without such layers.
    """
    model.requires_grad_(False)
    layers = getattr(model.get_decoder(), "layers", None)
    if layers is None or not hasattr(layers[0], "mlp"):
        raise TrainingError(
            f"method adapter: {model.config.model_type} models have no layers with an mlp; use lora"
        )
    for layer in layers:
        layer.mlp = Bottleneck(layer.mlp, model.config.hidden_size, size)


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The bottlenecks' own tensors by layer, such as `3.down.weight`."""
    return {
        f"{number}.{name}": tensor
        for number, layer in enumerate(model.get_decoder().layers)
        for name, tensor in layer.mlp.state_dict().items()
        if not name.startswith("block.")
    }


def save(model: PreTrainedModel, folder: Path, base_model: str) -> None:
    """Write the bottlenecks and their configuration into `folder`. base_model: the base's name."""
    tensors = weights(model)
    config = {"size": len(tensors["0.down.bias"]), "base_model": base_model}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS_FILE
    )


def load(model: PreTrainedModel, folder: Path) -> None:
    """Put a saved adapter into its base model. Raises TrainingError where it does not fit."""
    size = read_json(folder / CONFIG_FILE).get("size")
    if not isinstance(size, int):
        raise TrainingError(f"{folder / CONFIG_FILE}: size is {size!r}, not a number")
    insert(model, size)
    saved = load_file(folder / WEIGHTS_FILE)
    own = weights(model)
    for name in sorted(own.keys() | saved.keys()):
        theirs, ours = (tuple(w[name].shape) if name in w else None for w in (saved, own))
        if theirs != ours:
            raise TrainingError(
                f"{folder} does not fit this base model: {name} is {theirs} in the adapter and"
                f" {ours} in the model"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
