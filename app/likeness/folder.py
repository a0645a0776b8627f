"""A sentence encoder's folder, before PyTorch is needed."""

import hashlib
import json
from pathlib import Path


class EncoderError(ValueError):
    """A folder that holds no usable sentence encoder; the message names it."""


def check_encoder(folder: Path) -> None:
    """Raises EncoderError."""
    if not (folder / "config.json").is_file():
        raise EncoderError(
            f"{folder} holds no config.json: not a sentence encoder's folder; the setting `encoder`"
            " names it, and `python -m training download minilm` fetches the default one"
        )


def fingerprint(folder: Path) -> bytes:
    """16 bytes that tell an encoder from all others. Raises EncoderError."""
    check_encoder(folder)
    found = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".bin", ".txt"):
            try:
                with file.open("rb") as opened:
                    found.update(hashlib.file_digest(opened, hashlib.blake2b).digest())
            except OSError as error:
                raise EncoderError(f"{file} can't be read: {error.strerror}") from None
    return found.digest()


def vector_width(folder: Path) -> int:
    """How many numbers an encoder's vectors have. Raises EncoderError."""
    file = folder / "config.json"
    try:
        return int(json.loads(file.read_bytes())["hidden_size"])
    except (OSError, ValueError, TypeError, KeyError):
        raise EncoderError(f"{file} names no hidden_size: not a sentence encoder's") from None
