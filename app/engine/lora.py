"""LoRA adapters in PEFT's layout, of which only the weights' headers are read.

The service uses it to check adapters before loading them, training/ to merge them.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from app.engine.fingerprint import is_fingerprint_of
from app.engine.weights import LoraError as LoraError
from app.engine.weights import Shape, shapes, weight_files
from app.files import read_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT writes before a weight's own name. Other programs leave it out, which vLLM accepts."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM can reserve memory for (vllm.config.lora.MaxLoRARanks). Others are rounded up."""
LORA_KERNELS = Path(__file__).with_name("lora_kernels")
"""The fastest settings of vLLM's LoRA kernels by GPU, written by loadtests.lora_kernels."""
PLAIN_MATRIX = re.compile(
    r"\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight$"
)
BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Prefixes of those values of PEFT's `init_lora_weights` that alter the base's weights."""
NOT_PLAIN = (
    *("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters"),
    *("layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora"),
    *("arrow_config", "kasa_config", "monteclora_config"),
)
"""PEFT's settings that add other tensors or another formula to LoRA."""
VOCABULARY = re.compile(r"(^|\.)(lm_head|embed_tokens)(\.|$)")
"""In the name of a weight or module: it is of the vocabulary, whose adapters vLLM leaves out."""


class LoraPair(NamedTuple):
    """The factors of what an adapter adds to one weight: tensors' names and shapes."""

    a: str
    b: str
    a_shape: Shape
    """[rank, in]"""
    b_shape: Shape
    """[out, rank]"""


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter's folder as PEFT writes it."""

    folder: Path
    config: dict[str, Any]

    @property
    def rank(self) -> int:
        """The largest rank of any module."""
        by_module = (self.config.get("rank_pattern") or {}).values()
        return max([int(self.config["r"]), *map(int, by_module)])

    @cached_property
    def pairs(self) -> dict[str, LoraPair]:
        """The name of each adapted base weight, mapped to its factors.

        Raises LoraError if the file holds any other tensors.
        """
        found = shapes({WEIGHTS_FILE: self.folder / WEIGHTS_FILE})
        pairs: dict[str, LoraPair] = {}
        for name in sorted(found):
            if not name.endswith((".lora_A.weight", ".lora_B.weight")) or len(found[name]) != 2:
                raise LoraError(f"{self.folder}: {name} is not a plain LoRA matrix")
            a, b = (re.sub(r"lora_[AB]\.weight$", f"lora_{which}.weight", name) for which in "AB")
            if a not in found or b not in found:
                raise LoraError(f"{self.folder}: {name} has no counterpart")
            pair = LoraPair(a, b, found[a], found[b])
            if pairs.setdefault(self.base_name(a), pair) != pair:
                raise LoraError(f"{self.folder}: {name} is there with and without {PREFIX}")
        if not pairs:
            raise LoraError(f"{self.folder}: {WEIGHTS_FILE} holds no tensors")
        return pairs

    @staticmethod
    def base_name(name: str) -> str:
        return name.removeprefix(PREFIX).replace(".lora_A.weight", ".weight")


def read_lora(folder: Path) -> LoraAdapter:
    """Read an adapter's configuration.

    Raises LoraError if the folder is no LoRA adapter, or has parts beyond A and B (DoRA, biases,
    whole modules).
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise LoraError(f"{folder} holds no {CONFIG_FILE}: not a PEFT adapter")
    try:
        config = read_json(file)
    except ValueError as error:
        raise LoraError(str(error)) from None
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type")
        raise LoraError(f"{folder} is a {kind} adapter, not LORA: it can't be served or merged")
    if not (folder / WEIGHTS_FILE).is_file():
        raise LoraError(f"{folder} holds no {WEIGHTS_FILE}")
    for name in beyond_lora(config):
        raise LoraError(f"{file}: {name} is not supported; only plain LoRA is")
    rank = config.get("r")
    if not isinstance(rank, int) or not 0 < rank <= LORA_RANKS[-1]:
        raise LoraError(f"{file}: r is {rank!r}, not a rank from 1 to {LORA_RANKS[-1]}")
    for alpha in (config.get("lora_alpha"), *(config.get("alpha_pattern") or {}).values()):
        if not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise LoraError(f"{file}: lora_alpha is {alpha!r}, not a number")
    return LoraAdapter(folder, config)


def beyond_lora(config: Mapping[str, Any]) -> list[str]:
    """The settings of an adapter's configuration that make it more than plain LoRA, which can't be
    served or merged."""
    start = config.get("init_lora_weights")
    found = [name for name in NOT_PLAIN if config.get(name)]
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        found.append("bias")
    if isinstance(start, str) and start.startswith(BASE_CHANGING):
        found.append(f"init_lora_weights {start}")
    return found


def check_finite(adapter: LoraAdapter) -> None:
    """Raises LoraError, which names the first one, for a tensor with a NaN or an infinity."""
    with safe_open(adapter.folder / WEIGHTS_FILE, "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
            if not tensors.get_tensor(name).float().isfinite().all():
                raise LoraError(
                    f"{adapter.folder}: {name} holds a NaN or an infinity, so its training has"
                    " diverged: use an earlier checkpoint, or train with a lower learning_rate"
                )


def check_fit(adapter: LoraAdapter, base: Path) -> None:
    """Raises LoraError, which names the difference, if the adapter was made for another base."""
    theirs = shapes(weight_files(base))
    for weight, pair in adapter.pairs.items():
        out, into = pair.b_shape[0], pair.a_shape[1]
        if adapter.config.get("fan_in_fan_out"):
            out, into = into, out
        if weight not in theirs:
            raise LoraError(f"{adapter.folder} does not fit {base}: the base has no {weight}")
        if theirs[weight] != (out, into):
            raise LoraError(
                f"{adapter.folder} does not fit {base}: {weight} is {theirs[weight]} in the base,"
                f" and the adapter was made for {(out, into)}"
            )
    run = adapter.folder / "run.json"
    try:
        trained = read_json(run) if run.is_file() else {}
    except ValueError as error:
        raise LoraError(f"{error}: restore or remove it") from None
    expected = trained.get("base_fingerprint")
    if expected is not None and not is_fingerprint_of(base, str(expected)):
        raise LoraError(
            f"{adapter.folder} was trained on {trained.get('base_model')}, whose weights differ"
            f" from those in {base}: same shapes, another fingerprint"
        )


def lora_kernels_file(device: str, kernel: str) -> str:
    """The file's name as vLLM expects it (lora/ops/triton_ops/README_TUNING.md).

    device: the GPU's name in torch.
    """
    return f"{re.sub('[ -]', '_', device)}_{kernel}.json"


def use_lora_kernels(device: str, base: Path) -> None:
    """Make vLLM use LORA_KERNELS if they cover this GPU; a folder named by the operator prevails.

    This is done only for bases in which every matrix of the layers is a PLAIN_MATRIX. In others
    vLLM merges more matrices than the files cover, which ends its engine, or it uses kernels for
    experts, whose own defaults are better.
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
