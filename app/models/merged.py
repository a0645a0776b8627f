"""Serving one adapter merged into its base, as fast as the base itself, under the same name."""

import hashlib
import subprocess
import sys
from pathlib import Path

from app.engine.fingerprint import fingerprint
from app.engine.lora import CONFIG_FILE, WEIGHTS_FILE, LoraError
from app.engine.weights import side_files
from app.errors import StartupError
from app.observability.progress import step
from app.scoring.profile import PROFILE_FILE, RANKER_FILES
from app.settings import Settings


def merge_if_asked(settings: Settings) -> Settings:
    """If `merged` is set, return settings for the merged model, and create it in the state folder
    unless it is there.

    Raises StartupError for settings that contradict `merged`, and if the merge fails.
    """
    if not settings.merged:
        return settings
    if len(settings.adapters) != 1 or settings.adapter_root is not None:
        raise StartupError("merged needs exactly one adapter in adapters, and no adapter_root")
    [(name, adapter)] = settings.adapters.items()
    try:
        folder = settings.state / "merged" / f"{name}-{merge_key(settings.model, adapter)[:12]}"
    except (OSError, LoraError) as error:
        raise StartupError(f"adapter {name}: {error}") from error
    if not (folder / "config.json").is_file():
        with step(f"merging {adapter} into {settings.model}, in {folder}"):
            merge(settings.model, adapter, folder)
    return settings.model_copy(update={"model": folder, "model_name": name, "adapters": {}})


def merge_key(base: Path, adapter: Path) -> str:
    """Tells what a merge would write from what other files would give, in hex: by the base's
    weights, its other files, and all that is read of the adapter.

    Raises OSError and LoraError.
    """
    digest = hashlib.sha256(fingerprint(base).encode())
    files = [adapter / WEIGHTS_FILE, adapter / CONFIG_FILE, base / "config.json"]
    beside = [adapter / name for name in (PROFILE_FILE, *RANKER_FILES)]
    files += [file for file in (*beside, *side_files(base)) if file.is_file()]
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.name} {content}\n".encode())
    return digest.hexdigest()


def merge(base: Path, adapter: Path, output: Path) -> None:
    command = [sys.executable, "-m", "training", "merge", "--no-check"]
    command += ["--base", str(base), "--adapter", str(adapter), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise StartupError(f"merging {adapter}: {reason.removeprefix('error: ')}")
