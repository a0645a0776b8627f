"""From parsed arguments to a command's typed options, whose fields have the arguments' names."""

import argparse
from dataclasses import fields
from datetime import UTC, datetime
from typing import TypeVar

from training.errors import TrainingError

Options = TypeVar("Options")


def from_namespace(options: type[Options], given: argparse.Namespace) -> Options:
    """The arguments that `options`, a dataclass, has fields for: `--val-days` is `val_days`."""
    names = [field.name for field in fields(options)]  # type: ignore[arg-type]
    return options(**{name: getattr(given, name) for name in names})


def check_least(name: str, value: float | None, least: float) -> None:
    """Raise TrainingError, naming the argument, for a value below `least`."""
    if value is not None and value < least:
        raise TrainingError(f"--{name.replace('_', '-')} {value}: must be {least} or more")


def read_time(text: str) -> datetime:
    """The type of an argument that is a time such as 2019-11-14T12:00. Raises ArgumentTypeError for
    what is none, and for one with a zone: logs' times have none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo:
        raise argparse.ArgumentTypeError(f"{text}: write 2019-11-14 or 2019-11-14T12:00")
    return moment


def read_moment(text: str) -> float:
    """The type of an argument that is a moment, in UTC unless it has a zone: in seconds since 1970.
    Raises ArgumentTypeError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: write 2026-11-14 or 2026-11-14T12:00"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
