"""Compiling a model for this machine's processor, for a service with the same settings.

Where a GPU serves, vLLM compiles by itself, and nothing is left to be done.
"""

import asyncio
import os
import shutil
import sysconfig
from pathlib import Path

from app.engine.compiled import READY, compiled_folder, is_compiled
from app.errors import StartupError
from app.files import write_whole
from app.observability.progress import step
from app.settings import Settings


def compile_model(settings: Settings) -> str:
    """Compile unless that has been done; returns what is to be told. Raises StartupError."""
    if "enforce_eager" in settings.engine:
        raise StartupError("engine option 'enforce_eager' is set, so the service follows that")
    from vllm.platforms import current_platform

    from app.engine.arguments import engine_options

    if not current_platform.is_cpu():
        return "nothing to compile: on a GPU, vLLM compiles when the service starts"
    options = engine_options(settings)
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        raise StartupError("can't compile: there is no C++ compiler (g++), or it is switched off")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise StartupError("can't compile: Python's headers are missing (python3-dev)")
    try:
        folder = compiled_folder(settings.model, options)
        if not is_compiled(folder):
            fill(folder, settings)
    except OSError as error:
        raise StartupError(f"can't compile: {error}") from None
    return f"{settings.model} is compiled for these settings, in {folder}"


def fill(folder: Path, settings: Settings) -> None:
    """Have an engine compile into an empty folder, and say there that it came to its end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["VLLM_CACHE_ROOT"] = str(folder.absolute())
    compiled = {**settings.engine, "enforce_eager": False}
    with step(f"{settings.model}, compiled"):
        asyncio.run(start_and_stop(settings.model_copy(update={"engine": compiled})))
    write_whole(folder / READY, "")


async def start_and_stop(settings: Settings) -> None:
    from app.engine.vllm import VllmEngine

    engine = VllmEngine(settings)
    await engine.start()
    await engine.stop()
