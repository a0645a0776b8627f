"""The options of vLLM that the service and evaluations share. Nothing here imports vLLM."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.engine.compiled import compiled_folder, is_compiled
from app.engine.lora import LORA_RANKS, LoraError, use_lora_kernels

GIB = 1 << 30
CPU_DEFAULTS: dict[str, Any] = {
    "dtype": "bfloat16",
    "enforce_eager": True,  # compiling takes two minutes; see use_compiled
    "kv_cache_memory_bytes": 1 * GIB,
    "block_size": 32,  # the smallest on a CPU: a candidate recomputes less of the shared prefix
    "max_num_seqs": 128,
}
FEW_CORES = 4
"""Up to this many cores, vLLM may use every one of them for matrix products."""


def vllm_options(
    model: Path, on_cpu: bool, lora: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What the engine is started with: our defaults, `lora`, and the operator's `given` on top.

    The model and the worker extension that computes labels in float32 are always ours.
    """
    options = {
        "enable_prefix_caching": True,
        **(cpu_defaults() if on_cpu else {}),
        **lora,
        **given,
        "model": str(model),
        "worker_extension_cls": "app.engine.worker.Worker",
    }
    if on_cpu and "enforce_eager" not in given:
        use_compiled(model, options)
    return options


def use_compiled(model: Path, options: dict[str, Any]) -> None:
    """Change the options, and the environment that vLLM reads, for a model that is compiled."""
    folder = compiled_folder(model, options)
    if is_compiled(folder) and os.environ.get("TORCH_COMPILE_DISABLE") != "1":
        options["enforce_eager"] = False
        os.environ["VLLM_CACHE_ROOT"] = str(folder.absolute())


def cpu_defaults() -> dict[str, Any]:
    """CPU_DEFAULTS, after setting the environment that vLLM's engine process reads on a CPU.

    Intel's OpenMP is preloaded where it is installed. vLLM keeps one core free of matrix products;
    of two cores that costs half of the speed, so with FEW_CORES or fewer none is kept free.
    """
    if (os.cpu_count() or 1) <= FEW_CORES:
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        # vLLM compiles a function of its sampler even when it runs eagerly, and would die of it.
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    if openmp.exists():
        os.environ.setdefault("LD_PRELOAD", str(openmp))
    return CPU_DEFAULTS


def lora_room(base: Path, device: str, ranks: Sequence[int], adapters: int) -> dict[str, Any]:
    """Options that reserve room for `adapters` LoRA adapters of at most the largest of `ranks`.

    device: the GPU's name, for which tuned LoRA kernels are chosen if there are any.
    Raises LoraError for a rank beyond what vLLM serves.
    """
    rank = max(ranks)
    reserved = next((room for room in LORA_RANKS if room >= rank), None)
    if reserved is None:
        raise LoraError(f"vLLM serves ranks up to {LORA_RANKS[-1]}, not {rank}: merge it first")
    use_lora_kernels(device, base)
    return {"enable_lora": True, "max_loras": adapters, "max_lora_rank": reserved}
