"""What an option's text may be, for argparse."""

import argparse
import json
from collections.abc import Callable, Collection
from typing import Any


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """Some of the known ones, with commas."""

    def read(text: str) -> list[str]:
        given = text.split(",")
        if wrong := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"no {', '.join(wrong)} among {', '.join(known)}")
        return given

    return read


def json_object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return given
