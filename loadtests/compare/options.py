"""The options of `loadtests.compare`."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from loadtests.compare.results import HIGHER_IS_BETTER, LOWER_IS_BETTER
from loadtests.options import names
from loadtests.traffic import EXAMPLE_MIND

KINDS = {"predict": "PredictUser", "rank": "RankUser", "chat": "ChatUser"}
"""Kinds of requests, and the class in locustfile.py that sends each."""
FIGURES = (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)


@dataclass(frozen=True)
class Options:
    """What to compare, and under which load. Each field is the option of the same name.

    variants: (name, target) pairs. rate: requests per second of an open load; None in a closed one.
    users: requests in flight in a closed load; None in an open one. seconds, warmup: length of a
    turn and of the warm-up. objective: ((variant, figure), limit); the variant "" means every one.
    timeout: seconds.
    """

    variants: list[tuple[str, str]]
    rate: float | None
    users: int | None
    kinds: list[str]
    seconds: int
    rounds: int
    warmup: int
    objective: list[tuple[tuple[str, str], float]]
    mind: Path
    readers: int
    timeout: float
    api_key: str
    out: Path


def parse_options(description: str | None = None) -> Options:
    """Read the command line; exits with a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.compare",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("variants", nargs="+", type=variant, metavar="NAME=URL#MODEL|NAME=FOLDER")
    add_load_options(parser)
    parser.add_argument(
        "--objective",
        action="append",
        default=[],
        type=objective,
        metavar="[NAME:]FIGURE=LIMIT",
        help="limit that every variant, or the named one, must meet; repeatable. Figures: "
        + ", ".join(FIGURES),
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        help="folder for results and logs (default: %(default)s)",
    )
    options = Options(**vars(parser.parse_args()))
    known = [name for name, _ in options.variants]
    if len(set(known)) < len(known):
        parser.error("two variants have the same name")
    for (name, _), _ in options.objective:
        if name not in ("", *known):
            parser.error(f"--objective: no variant {name}")
    return options


def add_load_options(parser: argparse.ArgumentParser) -> None:
    load = parser.add_mutually_exclusive_group(required=True)
    load.add_argument("--rate", type=float, help="send an open load of this many requests/s")
    load.add_argument("--users", type=int, help="keep this many requests in flight (closed load)")
    parser.add_argument(
        "--kinds",
        type=names(KINDS),
        default="rank",
        help=f"comma-separated kinds of requests: {', '.join(KINDS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=int, default=30, help="length of a turn (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns of each variant (default: %(default)s)"
    )
    parser.add_argument(
        "--warmup",
        type=int,
        default=5,
        help="seconds of load before the turns that are not counted (default: %(default)s)",
    )
    parser.add_argument(
        "--mind", type=Path, default=EXAMPLE_MIND, help="MIND folder to take titles from"
    )
    parser.add_argument(
        "--readers", type=int, default=1000, help="number of readers (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60,
        help="seconds to wait for a response (default: %(default)s)",
    )
    parser.add_argument(
        "--api-key",
        default=os.environ.get("OPENAI_API_KEY", ""),
        help="sent as a Bearer token (default: OPENAI_API_KEY from the environment)",
    )


def variant(text: str) -> tuple[str, str]:
    name, found, target = text.partition("=")
    if not (name and found and target):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=URL#MODEL or NAME=FOLDER")
    return name, target


def objective(text: str) -> tuple[tuple[str, str], float]:
    where, _, limit = text.rpartition("=")
    name, _, figure = where.rpartition(":")
    if figure not in FIGURES:
        raise argparse.ArgumentTypeError(f"no figure {figure!r}; see --help")
    return (name, figure), float(limit)
