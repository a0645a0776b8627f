"""Serving one adapter merged into its base, as fast as the base itself, under the same name."""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from app.engine.fingerprint import fingerprint
from app.engine.lora import CONFIG_FILE, WEIGHTS_FILE, LoraError
from app.engine.weights import side_files
from app.errors import StartupError
from app.observability.progress import step
from app.scoring.profile import PROFILE_FILE, RANKER_FILES
from app.settings import Settings

logger = logging.getLogger("frontpage")
MERGED_NAME = re.compile(r".+-[0-9a-f]{12}")
MARK, REMOVED = "config.json", ".removed"
KEPT_BEFORE = 1
"""So many merges besides the one in use stay, the latest ones, for a way back."""
held: list[int] = []
"""Descriptors of the folders that this process serves from, open until it ends."""


def merge_if_asked(settings: Settings) -> Settings:
    """If `merged` is set, return settings for the merged model, and create it in the state folder
    unless it is there. Older merges that no process uses are removed.

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
    if not hold(folder):
        with step(f"merging {adapter} into {settings.model}, in {folder}"):
            merge(settings.model, adapter, folder)
        hold(folder)
    remove_unused(folder)
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


def hold(folder: Path) -> bool:
    """Keep other processes from removing this merge as long as this process lives. False: it is not
    there, or not whole."""
    try:
        place = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    with suppress(OSError):  # a file system without such locks, where nothing is removed either
        fcntl.flock(place, fcntl.LOCK_SH)
    if not (folder / MARK).is_file() or folder.stat().st_ino != os.fstat(place).st_ino:
        os.close(place)
        return False
    held.append(place)
    with suppress(OSError):  # read-only
        os.utime(folder)
    return True


def remove_unused(used: Path) -> None:
    """Remove the merges beside `used`, except the latest KEPT_BEFORE and those that another process
    holds. What can't be removed stays."""
    for left in used.parent.glob(f".*{REMOVED}"):
        shutil.rmtree(left, ignore_errors=True)
    others: list[tuple[float, Path]] = []
    for one in used.parent.iterdir():
        if MERGED_NAME.fullmatch(one.name) and one != used and (one / MARK).is_file():
            with suppress(FileNotFoundError):  # another process removes it just now
                others.append((one.stat().st_mtime, one))
    for _, old in sorted(others, reverse=True)[KEPT_BEFORE:]:
        with suppress(OSError):
            remove(old)
            logger.info("removed %s: an older merge that nothing uses", old)


def remove(folder: Path) -> None:
    """Raises OSError, also where a process holds the folder."""
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = folder.with_name(f".{folder.name}{REMOVED}")
        folder.rename(gone)
        shutil.rmtree(gone)
    finally:
        os.close(place)
