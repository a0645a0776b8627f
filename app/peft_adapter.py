"""A PEFT LoRA adapter's folder, checked before an engine sees it."""

import json
from dataclasses import dataclass
from pathlib import Path

from app.errors import AdapterRejected

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM reserves room for (vllm.config.lora.MaxLoRARanks); an adapter takes the next larger."""
CONFIG_FILE = "adapter_config.json"
HEAD_MODULES = {"lm_head", "embed_tokens"}


@dataclass(frozen=True)
class AdapterFolder:
    path: Path  # absolute
    rank: int


def read_adapter(path: Path) -> AdapterFolder:
    """Raises AdapterRejected for a folder that holds no LoRA adapter that vLLM can serve."""
    if not (path / CONFIG_FILE).is_file():
        raise AdapterRejected(f"{path} holds no {CONFIG_FILE}: not a PEFT adapter")
    try:
        config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise AdapterRejected(f"{path / CONFIG_FILE} is not JSON: {error}") from None
    if config.get("peft_type") != "LORA":
        raise AdapterRejected(
            f"{path} is a {config.get('peft_type')} adapter; vLLM serves LORA only: merge it"
        )
    if not (path / "adapter_model.safetensors").is_file():
        raise AdapterRejected(f"{path} holds no adapter_model.safetensors")
    if config.get("use_dora"):
        raise AdapterRejected(f"{path} uses DoRA, which vLLM does not serve")
    targets = config.get("target_modules") or []
    if HEAD_MODULES & set(targets if isinstance(targets, list) else [targets]):
        raise AdapterRejected(f"{path} adapts the vocabulary ({', '.join(HEAD_MODULES)}): merge it")
    rank = config.get("r")
    if not isinstance(rank, int) or not 0 < rank <= LORA_RANKS[-1]:
        raise AdapterRejected(f"{path}: r is {rank!r}, not a rank from 1 to {LORA_RANKS[-1]}")
    return AdapterFolder(path.absolute(), rank)
