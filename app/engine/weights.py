"""The files of a model: its weights, of which only the headers are read, and all others."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from app.scoring.profile import PROFILE_FILE

INDEX_FILE = "model.safetensors.index.json"
WEIGHT_ENDINGS = (".safetensors", ".safetensors.index.json", ".bin", ".gguf", ".pt", ".pth")
OWN_FILES = ("config.json", PROFILE_FILE, "run.json", "README.md")
"""Files that describe one model's own weights, and must not be copied to another model."""
SAMPLE_BYTES = 1 << 16

Shape = tuple[int, ...]


class LoraError(ValueError):
    """A folder can't be used, or an adapter was made for another base; the message says which."""


def weight_files(folder: Path) -> dict[str, Path]:
    """The names of a model's tensors, each mapped to the file that holds it.

    Raises LoraError for a folder without safetensors.
    """
    index = folder / INDEX_FILE
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / file for name, file in names.items()}
    single = folder / "model.safetensors"
    if not single.is_file():
        raise LoraError(f"{folder} holds no model.safetensors: not a model folder")
    with safe_open(single, "pt") as tensors:
        return dict.fromkeys(tensors.keys(), single)


def shapes(files: dict[str, Path]) -> dict[str, Shape]:
    """The tensors' shapes. Raises LoraError for a file that is truncated or not safetensors."""
    found: dict[str, Shape] = {}
    for file in set(files.values()):
        try:
            with safe_open(file, "pt") as tensors:
                names = tensors.keys()
                found |= {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
        except SafetensorError as error:
            raise LoraError(f"{file} can't be read: {error}") from None
    return found


def fingerprint(folder: Path) -> str:
    """Identify a base model quickly, by SHA-256 over each weight file's header and last bytes."""
    digest = hashlib.sha256()
    for file in sorted(set(weight_files(folder).values())):
        with file.open("rb") as content:
            digest.update(content.read(SAMPLE_BYTES))
            content.seek(max(file.stat().st_size - SAMPLE_BYTES, 0))
            digest.update(content.read(SAMPLE_BYTES))
    return digest.hexdigest()


def side_files(folder: Path) -> list[Path]:
    """A model's tokenizer, chat template and generation settings: every file at the top of its
    folder but the weights and OWN_FILES, by name in order."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and not file.name.endswith(WEIGHT_ENDINGS) and file.name not in OWN_FILES
    )
