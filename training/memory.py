"""Whether main memory is enough for what a command is about to do, before the kernel ends it."""

from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from app.engine.memory import free_memory
from training.errors import TrainingError
from training.progress import is_first_process, say

GB = 10**9
SURE_SHARE = 0.8
"""An estimate above this share of what is free brings a warning: it may be wrong by as much."""


def check_room(need: int, what: str, remedy: str) -> None:
    """Raise TrainingError where `need` bytes more than now are not free, on the machine or in the
    container; warn where that is not sure. what: needs them. remedy: what to change."""
    free = free_memory()
    line = f"{what} needs about {need / GB:.1f} GB more, and {free / GB:.1f} GB are free"
    if need > free:
        raise TrainingError(f"not enough memory: {line}; {remedy}")
    if need > SURE_SHARE * free and is_first_process():
        say(f"warning: memory may not be enough: {line}; {remedy}")


def check_weights(folder: Path, dtype: torch.dtype | str) -> None:
    """check_room for a model's weights. dtype "auto": as they are stored."""
    files = list(folder.glob("*.safetensors"))
    if isinstance(dtype, str):
        need, precision = sum(file.stat().st_size for file in files), "its own precision"
    else:
        need = sum(map(count_numbers, files)) * dtype.itemsize
        precision = str(dtype).removeprefix("torch.")
    check_room(need, f"{folder} in {precision}", "choose a smaller model or dtype: bfloat16")


def count_numbers(file: Path) -> int:
    """How many numbers a safetensors file holds; 0 if it is damaged: whoever loads it says so."""
    try:
        with safe_open(file, "pt") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
    except (OSError, SafetensorError):
        return 0
    return sum(map(prod, shapes))


def scoring_need(model: Any, rows: int, length: int, answers: int) -> int:
    """Bytes that a forward pass without gradients needs, of a batch [rows, length].

    The widest place is the feed-forward block, the attention mask, or the head.
    """
    config, size = model.config, int(next(model.parameters()).element_size())
    hidden, vocabulary = int(config.hidden_size), int(config.vocab_size)
    inner = int(getattr(config, "intermediate_size", None) or hidden)
    states = rows * length * (3 * inner * size + hidden * (4 * size + 12))
    mask = rows * length * length * (6 + size)
    head = answers * vocabulary * (size + 12)
    return max(states, head) + mask
