"""Folders with weights of 4 bits as AutoAWQ and GPTQModel write them, made of a model's own.

Scales are powers of two and every code fits, so that the three folders hold exactly the same
numbers, and bfloat16 holds them too.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.engine.lora import PLAIN_MATRIX

GROUP = 32
PACKED = 8
"""So many codes of 4 bits are in a number."""
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
GPTQ = {
    "quant_method": "gptq",
    "bits": 4,
    "group_size": GROUP,
    "desc_act": False,
    "sym": True,
    "lm_head": False,
    "checkpoint_format": "gptq",
}


def round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes from -6 to 7, [in, out], and scales, [groups, out], of a weight [out, in]."""
    groups = weight.float().T.reshape(-1, GROUP, weight.shape[0])
    scales = 2.0 ** torch.ceil(torch.log2(groups.abs().amax(1) / 7))
    codes = (groups / scales[:, None]).round().clamp(-6, 7)
    return codes.reshape(weight.shape[1], -1).int(), scales


def pack(codes: Tensor, order: list[int]) -> Tensor:
    """Codes from 0 to 15, [rows, columns], as int32 [rows, columns / 8]."""
    parts = codes.reshape(len(codes), -1, PACKED)[:, :, order].long()
    packed = (parts << (4 * torch.arange(PACKED))).sum(-1)
    return packed.to(torch.uint32).view(torch.int32)


def as_rounded(name: str, codes: Tensor, scales: Tensor) -> dict[str, Tensor]:
    """The same numbers in bfloat16."""
    weight = codes.float() * scales.repeat_interleave(GROUP, 0)
    return {f"{name}.weight": weight.T.bfloat16().contiguous()}


def as_awq(name: str, codes: Tensor, scales: Tensor) -> dict[str, Tensor]:
    """With zero points that differ from column to column."""
    zeros = (6 + torch.arange(codes.shape[1]) % 3).expand(scales.shape)
    return {
        f"{name}.qweight": pack(codes + zeros[:1], AWQ_ORDER),
        f"{name}.qzeros": pack(zeros, AWQ_ORDER),
        f"{name}.scales": scales.half(),
    }


def as_gptq(name: str, codes: Tensor, scales: Tensor) -> dict[str, Tensor]:
    """Zero points are 8 everywhere, and stored as one less."""
    plain = list(range(PACKED))
    return {
        f"{name}.qweight": pack((codes + 8).T.contiguous(), plain).T.contiguous(),
        f"{name}.qzeros": pack(torch.full(scales.shape, 7), plain),
        f"{name}.scales": scales.half(),
        f"{name}.g_idx": torch.arange(len(codes), dtype=torch.int32) // GROUP,
    }


FORMS: dict[str, tuple[Callable[[str, Tensor, Tensor], dict[str, Tensor]], Any]] = {
    "rounded": (as_rounded, None),
    "awq": (as_awq, AWQ),
    "gptq": (as_gptq, GPTQ),
}


def write_form(base: Path, folder: Path, form: str) -> Path:
    """The base in one of FORMS, in a new folder with its other files."""
    write, quantization = FORMS[form]
    shutil.copytree(base, folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in load_file(base / "model.safetensors").items():
        if PLAIN_MATRIX.search(name):
            tensors |= write(name.removesuffix(".weight"), *round_weight(tensor))
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if quantization is not None:
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = quantization
        (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder
