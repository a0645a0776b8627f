"""Ctrl-C during a backward pass, which otherwise is noticed only at its end."""

from typing import Any

from torch import Tensor, nn

from training.packed.scorer import plain


def notice_interrupts(model: Any) -> None:
    """Let Python run for a moment between the layers of each backward pass on a CPU.

    A pass over long rows takes minutes there, in one call of PyTorch's. Python handles signals only
    between its own instructions, such as those of a hook.
    """
    for layer in getattr(plain(model).get_decoder(), "layers", ()):
        layer.register_forward_hook(watch_gradient)


def watch_gradient(layer: nn.Module, given: object, states: Any) -> None:
    """Put a hook that does nothing on the gradient of a layer's states, [..., hidden]."""
    hidden = states[0] if isinstance(states, tuple) else states
    if isinstance(hidden, Tensor) and hidden.requires_grad:
        hidden.register_hook(lambda gradient: None)
