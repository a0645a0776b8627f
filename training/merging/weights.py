"""A model's weights written anew in shards, each tensor converted: merged, with the adapters' mean
change, or otherwise."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from app.engine.lora import WEIGHTS_FILE, LoraAdapter
from app.engine.weights import INDEX_FILE, weight_files
from app.files import first_line
from training.errors import TrainingError

SHARD_BYTES = 4 * 1024**3
"""The size of a shard at most, unless a single tensor is larger."""

Convert = Callable[[str, Tensor], Mapping[str, Tensor]]
"""Makes the tensors to write, by name, of a tensor of the base and its name."""


def write_merged(base: Path, adapters: Sequence[LoraAdapter], folder: Path) -> None:
    """Write the base with the adapters' mean change into `folder`, one tensor at a time."""
    write_weights(base, folder, lambda name, tensor: {name: merged(name, tensor, adapters)})


def write_weights(base: Path, folder: Path, convert: Convert) -> None:
    """Write what `convert` makes of the base's tensors into `folder`, one after the other; a shard
    of them is in memory at a time. Raises OSError, and whatever `convert` raises."""
    files = weight_files(base)
    shards = plan_shards(files)
    written: dict[str, dict[str, int]] = {}
    for number, shard in enumerate(shards, 1):
        only = len(shards) == 1
        name = "model" if only else f"model-{number:05}-of-{len(shards):05}"
        file = folder / f"{name}.safetensors"
        written[file.name] = save_shard(converted(files, shard, convert), file)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(sum(sizes.values()) for sizes in written.values())},
            "weight_map": {tensor: name for name, sizes in written.items() for tensor in sizes},
        }
        text = json.dumps(index, indent=2) + "\n"
        (folder / INDEX_FILE).write_text(text, encoding="utf-8")


def save_shard(tensors: Iterator[tuple[str, Tensor]], file: Path) -> dict[str, int]:
    """The size in bytes of each tensor, by name. Raises OSError. No caller holds the tensors, so
    one shard is freed before the next is made."""
    shard = dict(tensors)
    try:
        save_file(shard, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(first_line(error)) from error
    return {name: tensor.nbytes for name, tensor in shard.items()}


def plan_shards(files: Mapping[str, Path]) -> list[dict[str, int]]:
    """The size in bytes of each shard's tensors by name, in the base's order. files: the file that
    each tensor is in."""
    shards: list[dict[str, int]] = [{}]
    for file in dict.fromkeys(files.values()):
        with safe_open(file, "pt") as tensors:
            for name in (name for name, where in files.items() if where == file):
                size = tensors.get_tensor(name).nbytes  # mapped, not read
                if shards[-1] and sum(shards[-1].values()) + size > SHARD_BYTES:
                    shards.append({})
                shards[-1][name] = size
    return shards


def converted(
    files: Mapping[str, Path], names: Mapping[str, int], convert: Convert
) -> Iterator[tuple[str, Tensor]]:
    """What `convert` makes of the named tensors."""
    for name in names:
        with safe_open(files[name], "pt") as tensors:
            made = convert(name, tensors.get_tensor(name))
        for new, tensor in made.items():
            yield new, tensor.contiguous()


def merged(name: str, tensor: Tensor, adapters: Sequence[LoraAdapter]) -> Tensor:
    """A tensor of the base in its own precision, computed in float32 and rounded once.

    Raises TrainingError for a sum that is not finite.
    """
    changes = [change(adapter, name) for adapter in adapters if name in adapter.pairs]
    if not changes:
        return tensor
    tensor = (tensor.float() + sum(changes) / len(adapters)).to(tensor.dtype)
    if not tensor.isfinite().all():
        raise TrainingError(
            f"{name} holds a NaN or an infinity after merging: the base has one, or the sum"
            f" is beyond {tensor.dtype}"
        )
    return tensor


def change(adapter: LoraAdapter, weight: str) -> Tensor:
    """What an adapter adds to a weight of the base, [out, in], in float32."""
    pair = adapter.pairs[weight]
    with safe_open(adapter.folder / WEIGHTS_FILE, "pt") as tensors:
        a = tensors.get_tensor(pair.a).float()
        b = tensors.get_tensor(pair.b).float()
    product: Tensor = (b @ a) * scale(adapter, weight, a.shape[0])
    return product.T if adapter.config.get("fan_in_fan_out") else product


def scale(adapter: LoraAdapter, weight: str, rank: int) -> float:
    """What B·A is multiplied by, as PEFT does it. rank: of this weight's matrices."""
    module = weight.removesuffix(".weight")
    alpha = adapter.config["lora_alpha"]
    for pattern, value in (adapter.config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha / (rank**0.5 if adapter.config.get("use_rslora") else rank))
