"""Small helpers for every package: read JSON, write a file whole, shorten an error to one line.

They use the standard library alone.
"""

import json
from pathlib import Path
from typing import Any


def write_whole(file: Path, text: str) -> None:
    """Write `text` as UTF-8 in place of `file`, which is either replaced whole or left as it was.

    Missing parent folders are created. Raises OSError.
    """
    partial = file.with_name(f".{file.name}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises OSError, and ValueError, which names the file, for anything
    else than one object."""
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no JSON object")
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty; without a message, its type's name.

    Libraries often explain an error over many lines, of which the first names the cause.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
