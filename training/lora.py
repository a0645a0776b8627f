"""A LoRA adapter's folder and a model's weight files, read tensor by tensor, without the model."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from training.errors import TrainingError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Starts of PEFT's `init_lora_weights` that alter the base's weights before training."""
SAMPLE = 1 << 16

Shape = tuple[int, ...]


def weight_files(folder: Path) -> dict[str, Path]:
    """A model's tensors by name, each with the file it is in.

    Raises TrainingError for a folder without safetensors.
    """
    index = folder / INDEX_FILE
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / file for name, file in names.items()}
    single = folder / "model.safetensors"
    if not single.is_file():
        raise TrainingError(f"{folder} holds no model.safetensors: not a model folder")
    with safe_open(single, "pt") as tensors:
        return dict.fromkeys(tensors.keys(), single)


def shapes(files: dict[str, Path]) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for file in set(files.values()):
        with safe_open(file, "pt") as tensors:
            names = tensors.keys()
            found |= {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
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

    @cached_property
    def pairs(self) -> dict[str, tuple[Shape, Shape]]:
        """Name of the base's weight → shapes of its A [rank, in] and B [out, rank].

        Raises TrainingError for tensors that are anything else.
        """
        files = dict.fromkeys([WEIGHTS_FILE], self.folder / WEIGHTS_FILE)
        found = shapes(files)
        pairs = {}
        for name in sorted(found):
            if not name.endswith((".lora_A.weight", ".lora_B.weight")) or len(found[name]) != 2:
                raise TrainingError(f"{self.folder}: {name} is not a plain LoRA matrix")
            a, b = (re.sub(r"lora_[AB]\.weight$", f"lora_{which}.weight", name) for which in "AB")
            if a not in found or b not in found:
                raise TrainingError(f"{self.folder}: {name} has no counterpart")
            pairs[self.base_name(a)] = (found[a], found[b])
        return pairs

    @staticmethod
    def base_name(name: str) -> str:
        return name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")

    def scale(self, weight: str, rank: int) -> float:
        """What B·A is multiplied by, as PEFT has it."""
        module = weight.removesuffix(".weight")
        alpha = self.config["lora_alpha"]
        for pattern, value in (self.config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                alpha = value
                break
        return float(alpha / (rank**0.5 if self.config.get("use_rslora") else rank))

    def delta(self, weight: str) -> Tensor:
        """What the adapter adds to the base's weight [out, in], in float32."""
        stem = "base_model.model." + weight.removesuffix(".weight")
        with safe_open(self.folder / WEIGHTS_FILE, "pt") as tensors:
            a = tensors.get_tensor(f"{stem}.lora_A.weight").float()
            b = tensors.get_tensor(f"{stem}.lora_B.weight").float()
        delta: Tensor = (b @ a) * self.scale(weight, a.shape[0])
        return delta.T if self.config.get("fan_in_fan_out") else delta


def read_lora(folder: Path) -> LoraAdapter:
    """Raises TrainingError for a folder that is not a LoRA adapter, or one with parts beyond A
    and B (DoRA, biases, whole modules)."""
    file = folder / CONFIG_FILE
    if not file.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise TrainingError(f"{folder} holds no {CONFIG_FILE} with {WEIGHTS_FILE}: no LoRA adapter")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError(f"{file} is not JSON: {error}") from None
    start = config.get("init_lora_weights")
    refused = {
        f"peft_type {config.get('peft_type')}": config.get("peft_type") != "LORA",
        "use_dora": config.get("use_dora"),
        "bias": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "modules_to_save": config.get("modules_to_save"),
        f"init_lora_weights {start}": isinstance(start, str) and start.startswith(CHANGED_BASE),
    }
    for name, is_set in refused.items():
        if is_set:
            raise TrainingError(f"{file}: {name} is not supported; only plain LoRA is")
    return LoraAdapter(folder, config)


def check_fit(adapter: LoraAdapter, base: Path) -> None:
    """Raises TrainingError, naming what differs, where the adapter was made for another base."""
    theirs = shapes(weight_files(base))
    for weight, (a, b) in adapter.pairs.items():
        out, into = (a[1], b[0]) if adapter.config.get("fan_in_fan_out") else (b[0], a[1])
        if weight not in theirs:
            raise TrainingError(f"{adapter.folder} does not fit {base}: the base has no {weight}")
        if theirs[weight] != (out, into):
            raise TrainingError(
                f"{adapter.folder} does not fit {base}: {weight} is {theirs[weight]} in the base,"
                f" and the adapter was made for {(out, into)}"
            )
    run = adapter.folder / "run.json"
    trained = json.loads(run.read_text(encoding="utf-8")) if run.is_file() else {}
    expected = trained.get("base_fingerprint")
    if expected is not None and expected != fingerprint(base):
        raise TrainingError(
            f"{adapter.folder} was trained on {trained.get('base_model')}, whose weights differ"
            f" from those in {base}: same shapes, another fingerprint"
        )
