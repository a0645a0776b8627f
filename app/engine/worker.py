"""What vLLM's worker process gets from us: the label head, and on a CPU some mends of vLLM.

vLLM imports this module in its worker before it loads the model, through its own option
`worker_extension_cls`.
"""

from typing import Any

import torch
from vllm.platforms import current_platform

from app.engine.label_head import LabelHead


class Worker(LabelHead):
    """A mixin of vLLM's Worker, called through `AsyncLLM.collective_rpc`."""


def keep_quantized_weights() -> None:
    """Leave an empty tensor where vLLM's kernel for INT8 leaves None as a layer's weight.

    On a CPU without AMX it hands its weights to oneDNN. A layer that is wrapped for LoRA then looks
    up its weight's device, and the engine would not start (seen with vLLM 0.32 in
    lora/layers/utils.py; #57503 is the same of another device).
    """
    from vllm.model_executor.kernels.linear.scaled_mm.cpu import CPUInt8ScaledMMLinearKernel

    hand_over = CPUInt8ScaledMMLinearKernel.process_weights_for_onednn

    def hand_over_and_keep(kernel: Any, layer: torch.nn.Module) -> None:
        hand_over(kernel, layer)
        name = kernel.layer_param_names[0]
        if getattr(layer, name) is None:
            empty = torch.empty(0, dtype=torch.int8)
            setattr(layer, name, torch.nn.Parameter(empty, requires_grad=False))

    CPUInt8ScaledMMLinearKernel.process_weights_for_onednn = hand_over_and_keep


def read_compiled_functions() -> None:
    """Let vLLM use the functions that it saved in its cache earlier.

    vLLM 0.32 saves what it compiled for a CPU, but does not read it: after loading, it calls a
    method that only its functions for GPUs have, takes the error for a broken file, and compiles
    again. Nothing is left to be done at that point, so the method is added where it is missing.
    """
    load: Any = torch.compiler.load_compiled_function

    def load_whole(*args: Any, **kwargs: Any) -> Any:
        loaded = load(*args, **kwargs)
        compiled = loaded._artifacts.compiled_fn
        if not hasattr(compiled, "finalize_loading"):
            compiled.finalize_loading = lambda vllm_config: None
        return loaded

    torch.compiler.load_compiled_function = load_whole


if current_platform.is_cpu():
    from app.engine.compiled_lora import compile_around_lora

    keep_quantized_weights()
    read_compiled_functions()
    compile_around_lora()
