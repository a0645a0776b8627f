"""Converters from an option's text to its value, for argparse's `type`."""

import argparse
import json
from collections.abc import Callable, Collection
from typing import Any


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """A converter for a comma-separated list of names, each of which must be in `known`."""

    def read(text: str) -> list[str]:
        given = text.split(",")
        if wrong := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"no {', '.join(wrong)} among {', '.join(known)}")
        return given

    return read


def numbers(text: str) -> list[int]:
    """Whole numbers above 0, separated by commas. Raises ArgumentTypeError."""
    found = [int(part) for part in text.split(",") if part.isdecimal()]
    if not found or min(found) < 1 or len(found) < len(text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers above 0")
    return found


def json_object(text: str) -> dict[str, Any]:
    """Raises ArgumentTypeError for anything but a JSON object."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return given
