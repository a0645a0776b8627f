"""A check for enough memory before vLLM starts, which would report it in a hundred lines."""

from pathlib import Path
from typing import Any

import psutil

from app.errors import StartupError

GIB = 1 << 30
PROCESS_BYTES = 1 * GIB
"""What the engine's process needs besides weights and cache (0.9 GiB measured with CPU torch)."""


def check_memory(model: Path, options: dict[str, Any], on_cpu: bool) -> None:
    """Raises StartupError if weights and cache don't fit into the free main memory."""
    if not on_cpu:
        return  # vLLM's own message about GPU memory is clear
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    cache = options.get("kv_cache_memory_bytes") or 0
    need, free = weights + cache + PROCESS_BYTES, free_memory()
    if need > free:
        raise StartupError(
            f"not enough memory: {need / GIB:.1f} GiB needed (weights {weights / GIB:.1f}, cache"
            f" {cache / GIB:.1f}, process {PROCESS_BYTES / GIB:.1f}), {free / GIB:.1f} GiB free;"
            " use a smaller model or lower FRONTPAGE_ENGINE__KV_CACHE_MEMORY_BYTES"
        )


def free_memory() -> int:
    """Free bytes of the machine or within the container's limit, whichever is less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))
