"""Adapter folders before an engine uses them: where they may be, their checks and their copies."""

import re
import shutil
from pathlib import Path

from app.engine.lora import VOCABULARY, LoraError, check_finite, check_fit, read_lora
from app.errors import AdapterRejected, Conflict, InvalidValue
from app.files import read_json
from app.likeness.tower import read_tower
from app.ranker.ranker import load_ranker
from app.settings import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str, param: str = "name") -> None:
    """Raises InvalidValue if an adapter or alias can't have this name."""
    if not NAME.fullmatch(name):
        rule = "up to 64 letters, digits, dots, dashes and underscores"
        raise InvalidValue(f"{param}: {name!r} is not {rule}", param)


def find_below(root: Path | None, path: str) -> Path:
    """The folder `path` below `root`, without links or `..`. Raises Conflict or InvalidValue."""
    if root is None:
        raise Conflict("adapters can't be loaded while serving: adapter_root is not set")
    root = root.resolve()
    wanted = root / path
    if "\0" in path or ".." in wanted.parts or wanted == root or not wanted.is_relative_to(root):
        raise InvalidValue(f"path: {path!r} is not below adapter_root", "path")
    if wanted.resolve() != wanted:
        raise InvalidValue(f"path: {path!r} leads through a link", "path")
    if not wanted.is_dir():
        raise InvalidValue(f"path: there is no folder {path!r} below adapter_root", "path")
    return wanted


def check_adapter(folder: Path, settings: Settings, max_rank: int | None = None) -> int:
    """Check an adapter's files, rank, base, tensor names, numbers and ranker; returns its rank.

    Raises AdapterRejected.
    """
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
        if "quantization_config" not in config:  # a quantized base's tensors have other names
            check_fit(adapter, settings.model)
        load_ranker(folder)
        read_tower(folder)
    except (ValueError, OSError, TypeError) as error:
        raise AdapterRejected(str(error), "path") from error
    return rank


def copy_files(source: Path, folder: Path) -> None:
    """Copy the files directly in `source`, except links, to `folder`. Raises AdapterRejected."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in source.iterdir():
            if file.is_file() and not file.is_symlink():
                shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise AdapterRejected(f"can't copy {source}: {error.strerror}", "path") from error
