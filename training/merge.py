"""Fold LoRA adapters into their base model: a model that is served as fast as the base.

  python -m training merge --base models/smollm2-135m-instruct --adapter models/news-v1 \\
      --output models/news-v1-merged

The arithmetic is float32, each weight is rounded once to the base's own precision, and weights are
read and written one by one. Then 64 prompts are scored with the adapter and merged; a difference
beyond rounding is an error, and nothing is kept. Several --adapter (of one base, such as
checkpoints of one run) are averaged; the first one's profile is kept.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.scoring.profile import PROFILE_FILE
from training.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from app.engine.lora import LoraAdapter

SHARD_BYTES = 4 * 1024**3
MARK = "merge.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--base", type=Path, required=True, metavar="DIR", help="the model it was trained on")
    add("--adapter", type=Path, required=True, action="append", metavar="DIR", help="LoRA adapter")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    add("--data", type=Path, metavar="DIR", help="check with its prompts, not with built-in ones")
    add("--no-check", action="store_true", help="don't compare scores (which loads both models)")


def run(options: argparse.Namespace) -> None:
    from app.engine.lora import check_fit, read_lora
    from training.folders import copy_side_files, replaced_folder

    adapters = [read_lora(folder) for folder in options.adapter]
    for adapter in adapters:
        check_fit(adapter, options.base)
    config = json.loads((options.base / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise TrainingError(f"{options.base} is quantized: merge into the model it was made from")
    check = None if options.no_check else check_for(options)
    with replaced_folder(options.output, MARK) as folder:
        write_merged(options.base, adapters, folder)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        copy_side_files(options.base, folder)
        copy_profile(options.adapter[0], folder)
        record = describe(options.base, options.adapter)
        if check is not None:
            record |= check(folder)
        (folder / MARK).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if check is None:
        print(f"{options.output} is ready, unchecked")
    else:
        print(
            f"{options.output} is ready: on {record['prompts']} prompts, merged and unmerged"
            f" log-odds differ by at most {record['max_difference']:.2g}; the adapter moves them by"
            f" up to {record['adapter_effect']:.2g}"
        )


def check_for(options: argparse.Namespace) -> Callable[[Path], dict[str, Any]]:
    """Folder of the merged model → findings. Apart, for it needs training's packages."""
    from training.merging.check import compare, make_impressions

    impressions = make_impressions(options.data)
    return lambda folder: compare(options.base, options.adapter, folder, impressions)


def write_merged(base: Path, adapters: "list[LoraAdapter]", folder: Path) -> None:
    """The base's tensors plus the adapters' mean delta, in shards of at most SHARD_BYTES."""
    from safetensors.torch import save_file

    from app.engine.lora import INDEX_FILE, weight_files

    files = weight_files(base)
    shards = plan_shards(files)
    names = [
        f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)
    ]
    names = ["model.safetensors"] if len(shards) == 1 else names
    for name, shard in zip(names, shards, strict=True):
        # No name for the tensors, so that one shard is gone before the next is made.
        save_file(
            dict(merged_tensors(files, shard, adapters)), folder / name, metadata={"format": "pt"}
        )
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(sum(shard.values()) for shard in shards)},
            "weight_map": {
                t: name for name, shard in zip(names, shards, strict=True) for t in shard
            },
        }
        text = json.dumps(index, indent=2) + "\n"
        (folder / INDEX_FILE).write_text(text, encoding="utf-8")


def plan_shards(files: dict[str, Path]) -> list[dict[str, int]]:
    """Each shard's tensors with their bytes, in the base's order."""
    from safetensors import safe_open

    shards: list[dict[str, int]] = [{}]
    for file in dict.fromkeys(files.values()):
        with safe_open(file, "pt") as tensors:
            for name in (name for name, where in files.items() if where == file):
                size = tensors.get_tensor(name).nbytes  # mapped, not read
                if shards[-1] and sum(shards[-1].values()) + size > SHARD_BYTES:
                    shards.append({})
                shards[-1][name] = size
    return shards


def merged_tensors(
    files: dict[str, Path], names: dict[str, int], adapters: "list[LoraAdapter]"
) -> "Iterator[tuple[str, Tensor]]":
    from safetensors import safe_open

    from training.merging.products import delta

    for name in names:
        with safe_open(files[name], "pt") as tensors:
            tensor = tensors.get_tensor(name)
        deltas = [delta(adapter, name) for adapter in adapters if name in adapter.pairs]
        if deltas:
            tensor = (tensor.float() + sum(deltas) / len(adapters)).to(tensor.dtype)
        yield name, tensor.contiguous()


def copy_profile(adapter: Path, folder: Path) -> None:
    profile = adapter / PROFILE_FILE
    if profile.is_file():
        (folder / PROFILE_FILE).write_bytes(profile.read_bytes())


def describe(base: Path, adapters: list[Path]) -> dict[str, Any]:
    import hashlib

    from app.engine.lora import WEIGHTS_FILE, fingerprint

    return {
        "base_model": base.name,
        "base_fingerprint": fingerprint(base),
        "adapters": {
            adapter.name: hashlib.sha256((adapter / WEIGHTS_FILE).read_bytes()).hexdigest()
            for adapter in adapters
        },
    }
