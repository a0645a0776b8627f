"""The files of a model: its weights, of which only the headers are read, and all others."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from app.scoring.profile import PROFILE_FILE, RANKER_FILES

INDEX_FILE = "model.safetensors.index.json"
WEIGHT_ENDINGS = (".safetensors", ".safetensors.index.json", ".bin", ".gguf", ".pt", ".pth")
FINGERPRINT_FILE = ".fingerprint.json"
"""The cache of app.engine.fingerprint."""
QUANTIZED_FILE = "quantize.json"
"""Written by `training quantize`: what a model's weights were made from."""
OWN_FILES = (
    *("config.json", PROFILE_FILE, "run.json", "README.md", FINGERPRINT_FILE, QUANTIZED_FILE),
    *RANKER_FILES,
)
"""Files that describe one model's own weights, and must not be copied to another model."""

Shape = tuple[int, ...]


class LoraError(ValueError):
    """A folder can't be used, or an adapter was made for another base; the message says which."""


def weight_files(folder: Path) -> dict[str, Path]:
    """The names of a model's tensors, each mapped to the file that holds it.

    Raises LoraError for a folder without safetensors, and for files that can't be read.
    """
    index = folder / INDEX_FILE
    if index.is_file():
        try:
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return {name: folder / file for name, file in names.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoraError(f"{index} is not an index of weights: {error!r}") from None
    single = folder / "model.safetensors"
    if not single.is_file():
        raise LoraError(f"{folder} holds no model.safetensors: not a model folder")
    return dict.fromkeys(shapes({"": single}), single)


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


def side_files(folder: Path) -> list[Path]:
    """A model's tokenizer, chat template and generation settings: every file at the top of its
    folder but the weights and OWN_FILES, by name in order."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and not file.name.endswith(WEIGHT_ENDINGS) and file.name not in OWN_FILES
    )
