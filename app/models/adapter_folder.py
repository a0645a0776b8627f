"""Adapter folders before an engine uses them: names, checks, fingerprints and copies."""

import hashlib
import re
from pathlib import Path

from app.engine.lora import (
    CONFIG_FILE,
    VOCABULARY,
    WEIGHTS_FILE,
    LoraError,
    check_finite,
    check_fit,
    read_lora,
)
from app.engine.weights import QUANTIZED_FILE
from app.errors import AdapterRejected, InvalidValue
from app.files import read_json
from app.likeness.tower import read_tower
from app.ranker.ranker import load_ranker
from app.scoring.profile import PROFILE_FILE, RANKER_FILES
from app.settings import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str, param: str = "name") -> None:
    """Raises InvalidValue if an adapter or alias can't have this name."""
    if not NAME.fullmatch(name):
        rule = "up to 64 letters, digits, dots, dashes and underscores"
        raise InvalidValue(f"{param}: {name!r} is not {rule}", param)


def check_adapter(folder: Path, settings: Settings, max_rank: int | None = None) -> int:
    """Check an adapter's files, rank, base, tensor names, numbers and ranker; returns its rank.

    Raises AdapterRejected.
    """
    rank = check_lora(folder, settings, max_rank)
    try:
        load_ranker(folder)
        read_tower(folder)
    except (ValueError, OSError) as error:
        raise AdapterRejected(str(error), "path") from error
    return rank


def check_lora(folder: Path, settings: Settings, max_rank: int | None = None) -> int:
    """The same without the ranker."""
    try:
        adapter = read_lora(folder)
        rank = adapter.rank
        if max_rank is not None and rank > max_rank:
            raise LoraError(f"{folder} has rank {rank}; max_adapter_rank is {max_rank}")
        for weight in adapter.pairs:
            if VOCABULARY.search(weight):
                raise LoraError(f"{folder} adapts the vocabulary ({weight}): merge it instead")
        check_finite(adapter)
        config = read_json(settings.model / "config.json")
        if "quantization_config" not in config or (settings.model / QUANTIZED_FILE).is_file():
            check_fit(adapter, settings.model)
    except (ValueError, OSError, TypeError) as error:
        raise AdapterRejected(str(error), "path") from error
    return rank


def fingerprint(folder: Path) -> str:
    """SHA-256 over the files that shape an adapter's answers, in hex. Raises OSError."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE, PROFILE_FILE, *RANKER_FILES):
        file = folder / name
        if file.is_file():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{name} {content}\n".encode())
        elif name in (CONFIG_FILE, WEIGHTS_FILE):
            raise FileNotFoundError(file)
    return digest.hexdigest()


def own_copy(state: Path, name: str, version: int) -> Path:
    """The folder of this instance's copy of a version."""
    return state / "adapters" / f"{name}@{version}"
