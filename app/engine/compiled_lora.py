"""LoRA in a compiled model on a CPU, inside vLLM's worker process.

vLLM compiles no model with room for adapters on a CPU: which adapter a token has is looked up in
Python, and a compiler would take the first answer for all. Here each linear layer with room for
adapters is one operation that the compiler does not look into, as vLLM has it for a GPU's second
stream (lora_linear_async in vLLM 0.32). What lies between these layers is compiled.
"""

from typing import Any

import torch
from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from vllm.utils.torch_utils import direct_register_custom_op

LAYERS: dict[str, Any] = {}
"""This process's layers by their names in the model."""


def lora_linear(
    name: str, width: int, x: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """The layer's output [tokens, width] for x [tokens, its input's width]."""
    found: torch.Tensor = LAYERS[name]._apply_sync(x, bias)
    return found


def shape_of_lora_linear(
    name: str, width: int, x: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], width))


def apply(self: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """In place of BaseLinearLayerWithLoRA.apply."""
    name, width = self.base_layer.prefix, sum(self.output_slices)
    found: torch.Tensor = (
        torch.ops.vllm.frontpage_lora_linear(name, width, x, bias)
        if torch.compiler.is_compiling()
        else self._apply_sync(x, bias)
    )
    return found


def compile_around_lora() -> None:
    """From now on, in this process, layers with room for adapters can be compiled around."""
    direct_register_custom_op("frontpage_lora_linear", lora_linear, fake_impl=shape_of_lora_linear)
    make = BaseLinearLayerWithLoRA.__init__

    def make_known(self: Any, base_layer: Any) -> None:
        make(self, base_layer)
        LAYERS[base_layer.prefix] = self

    BaseLinearLayerWithLoRA.__init__ = make_known
    BaseLinearLayerWithLoRA.apply = apply
