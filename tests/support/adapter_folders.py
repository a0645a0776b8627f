"""Adapter folders for tests whose engine does not read them: right names and shapes, no meaning."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

STEM = "base_model.model.model.layers.0.self_attn.q_proj"
SMOLLM2_HIDDEN = 576


def write_adapter(
    folder: Path,
    rank: int = 8,
    hidden: int = SMOLLM2_HIDDEN,
    stem: str = STEM,
    alpha: int = 16,
    **profile: Any,
) -> Path:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {
        f"{stem}.lora_A.weight": torch.zeros(rank, hidden),
        f"{stem}.lora_B.weight": torch.zeros(hidden, rank),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    if profile:
        (folder / "profile.json").write_text(json.dumps(profile))
    return folder
