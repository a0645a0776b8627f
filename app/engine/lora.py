"""LoRA adapters in PEFT's layout and the weight files of models, read from their headers alone.

Serving checks with it what it is asked to load; training/ merges with it.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM reserves room for (vllm.config.lora.MaxLoRARanks); an adapter takes the next larger."""
LORA_KERNELS = Path(__file__).with_name("lora_kernels")
"""What vLLM's LoRA kernels run fastest with, by GPU; loadtests.lora_kernels writes it."""
PLAIN_MATRIX = re.compile(
    r"\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight$"
)
CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Starts of PEFT's `init_lora_weights` that alter the base's weights before training."""
SAMPLE = 1 << 16

Shape = tuple[int, ...]


class LoraError(ValueError):
    """A folder that can't be used, or an adapter for another base; the message says which."""


def weight_files(folder: Path) -> dict[str, Path]:
    """A model's tensors by name, each with the file it is in.

    Raises LoraError for a folder without safetensors.
    """
    index = folder / INDEX_FILE
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / file for name, file in names.items()}
    single = folder / "model.safetensors"
    if not single.is_file():
        raise LoraError(f"{folder} holds no model.safetensors: not a model folder")
    with safe_open(single, "pt") as tensors:
        return dict.fromkeys(tensors.keys(), single)


def shapes(files: dict[str, Path]) -> dict[str, Shape]:
    """Raises LoraError for a file that is not safetensors, or is cut short."""
    found: dict[str, Shape] = {}
    for file in set(files.values()):
        try:
            with safe_open(file, "pt") as tensors:
                names = tensors.keys()
                found |= {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
        except SafetensorError as error:
            raise LoraError(f"{file} can't be read: {error}") from None
    return found


def fingerprint(folder: Path) -> str:
    """Tells base models apart in moments: sha256 over each weight file's header and last bytes."""
    digest = hashlib.sha256()
    for file in sorted(set(weight_files(folder).values())):
        with file.open("rb") as content:
            digest.update(content.read(SAMPLE))
            content.seek(max(file.stat().st_size - SAMPLE, 0))
            digest.update(content.read(SAMPLE))
    return digest.hexdigest()


@dataclass(frozen=True)
class LoraAdapter:
    """A folder as PEFT writes it."""

    folder: Path
    config: dict[str, Any]

    @property
    def rank(self) -> int:
        """The largest of any module."""
        by_module = (self.config.get("rank_pattern") or {}).values()
        return max([int(self.config["r"]), *map(int, by_module)])

    @cached_property
    def pairs(self) -> dict[str, tuple[Shape, Shape]]:
        """Name of the base's weight → shapes of its A [rank, in] and B [out, rank].

        Raises LoraError for tensors that are anything else.
        """
        found = shapes({WEIGHTS_FILE: self.folder / WEIGHTS_FILE})
        pairs = {}
        for name in sorted(found):
            if not name.endswith((".lora_A.weight", ".lora_B.weight")) or len(found[name]) != 2:
                raise LoraError(f"{self.folder}: {name} is not a plain LoRA matrix")
            a, b = (re.sub(r"lora_[AB]\.weight$", f"lora_{which}.weight", name) for which in "AB")
            if a not in found or b not in found:
                raise LoraError(f"{self.folder}: {name} has no counterpart")
            pairs[self.base_name(a)] = (found[a], found[b])
        if not pairs:
            raise LoraError(f"{self.folder}: {WEIGHTS_FILE} holds no tensors")
        return pairs

    @staticmethod
    def base_name(name: str) -> str:
        return name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")


def read_lora(folder: Path) -> LoraAdapter:
    """Raises LoraError for a folder that is not a LoRA adapter, or one with parts beyond A and B
    (DoRA, biases, whole modules)."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise LoraError(f"{folder} holds no {CONFIG_FILE}: not a PEFT adapter")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoraError(f"{file} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise LoraError(f"{folder} is a {kind} adapter, not LORA: it can't be served, nor merged")
    if not (folder / WEIGHTS_FILE).is_file():
        raise LoraError(f"{folder} holds no {WEIGHTS_FILE}")
    start = config.get("init_lora_weights")
    refused = {
        "use_dora": config.get("use_dora"),
        "bias": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "modules_to_save": config.get("modules_to_save"),
        f"init_lora_weights {start}": isinstance(start, str) and start.startswith(CHANGED_BASE),
    }
    for name, is_set in refused.items():
        if is_set:
            raise LoraError(f"{file}: {name} is not supported; only plain LoRA is")
    rank = config.get("r")
    if not isinstance(rank, int) or not 0 < rank <= LORA_RANKS[-1]:
        raise LoraError(f"{file}: r is {rank!r}, not a rank from 1 to {LORA_RANKS[-1]}")
    return LoraAdapter(folder, config)


def check_fit(adapter: LoraAdapter, base: Path) -> None:
    """Raises LoraError, naming what differs, where the adapter was made for another base."""
    theirs = shapes(weight_files(base))
    for weight, (a, b) in adapter.pairs.items():
        out, into = (a[1], b[0]) if adapter.config.get("fan_in_fan_out") else (b[0], a[1])
        if weight not in theirs:
            raise LoraError(f"{adapter.folder} does not fit {base}: the base has no {weight}")
        if theirs[weight] != (out, into):
            raise LoraError(
                f"{adapter.folder} does not fit {base}: {weight} is {theirs[weight]} in the base,"
                f" and the adapter was made for {(out, into)}"
            )
    run = adapter.folder / "run.json"
    trained = json.loads(run.read_text(encoding="utf-8")) if run.is_file() else {}
    expected = trained.get("base_fingerprint")
    if expected is not None and expected != fingerprint(base):
        raise LoraError(
            f"{adapter.folder} was trained on {trained.get('base_model')}, whose weights differ"
            f" from those in {base}: same shapes, another fingerprint"
        )


def lora_kernels_file(device: str, kernel: str) -> str:
    """As vLLM names it (lora/ops/triton_ops/README_TUNING.md). device: the GPU, as torch says."""
    return f"{re.sub('[ -]', '_', device)}_{kernel}.json"


def use_lora_kernels(device: str, base: Path) -> None:
    """vLLM reads LORA_KERNELS if they have this GPU's; a folder named by the operator stays.

    Only for a base of nothing but PLAIN_MATRIX: of others vLLM merges more matrices than the files
    know, which ends its engine, or it has kernels for experts, with better defaults.
    """
    if not (LORA_KERNELS / lora_kernels_file(device, "SHRINK")).is_file():
        return
    try:
        every = shapes(weight_files(base))
    except LoraError:
        return
    matrices = [name for name, shape in every.items() if ".layers." in name and len(shape) > 1]
    if matrices and all(PLAIN_MATRIX.search(name) for name in matrices):
        os.environ.setdefault("VLLM_TUNED_CONFIG_FOLDER", str(LORA_KERNELS))
