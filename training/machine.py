"""The machine as PyTorch sees it, for the records of runs."""

import platform
import resource
from pathlib import Path

import torch

from training.provenance import Hardware, processor

PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers")
"""The libraries whose versions are recorded with every run."""

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")
"""The processor's flags that stand for fast products in bfloat16."""


def hardware() -> Hardware:
    """The machine this process runs on, and how many processes share the work."""
    distributed = torch.distributed.is_initialized()
    return Hardware(
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        gpus=torch.cuda.device_count(),
        processes=torch.distributed.get_world_size() if distributed else 1,
        threads=torch.get_num_threads(),
    )


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16 matrices, as Linux says."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return not words.isdisjoint(BFLOAT16_FLAGS)


def peak_memory() -> int:
    """Bytes: the most that was allocated on the GPU, or without one, resident in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
