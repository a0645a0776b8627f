"""The options of `loadtests.growth`."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.growth.points import HELD_VALUES, READERS, VALUES
from loadtests.options import json_object, names
from loadtests.traffic import EXAMPLE_MIND


@dataclass(frozen=True)
class Options:
    """What to vary and where to write it. Each field is the option of the same name.

    model: serves while candidates, history or readers vary. base, adapter: serve while adapters
    vary. by: quantities to vary. readers: at once while something else is varied.
    adapter_candidates: per ranking while adapters vary. seconds: length of one measurement. out:
    folder for logs.
    """

    model: Path
    base: Path
    adapter: Path
    engine: dict[str, Any]
    load_format: str | None
    by: list[str]
    readers: int
    adapter_candidates: int
    layout: str
    mind: Path
    seconds: float
    json: Path
    plot: Path | None
    out: Path
    commit: str | None


def parse_options(description: str | None = None) -> Options:
    """Read the command line; exits with a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.growth",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    add_run_options(parser)
    return Options(**vars(parser.parse_args()))


def add_model_options(parser: argparse.ArgumentParser) -> None:
    for option, default, text in (
        ("--model", "models/news-smollm2", "model folder"),
        ("--base", "models/smollm2-135m-instruct", "model folder for unmerged adapters"),
        ("--adapter", "adapters/news-smollm2", "LoRA folder, which is loaded several times"),
    ):
        parser.add_argument(
            option, type=Path, default=Path(default), help=f"{text} (default: {default})"
        )
    parser.add_argument(
        "--engine", type=json_object, default={}, metavar="JSON", help="options of vLLM"
    )
    parser.add_argument("--load-format", help="vLLM's load format; `dummy` loads random weights")
    parser.add_argument(
        "--layout", default="categories", help="layout of the prompts (default: %(default)s)"
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by",
        type=names(VALUES),
        default=list(VALUES),
        help=f"comma-separated quantities to vary: {', '.join(VALUES)} (default: all)",
    )
    parser.add_argument(
        "--readers",
        type=int,
        default=HELD_VALUES[READERS],
        help="readers at once while something else is varied (default: %(default)s)",
    )
    parser.add_argument(
        "--adapter-candidates",
        type=int,
        default=5,
        help="candidates per ranking while adapters are varied (default: %(default)s, since"
        " unmerged adapters are slow on a CPU)",
    )
    parser.add_argument(
        "--mind", type=Path, default=EXAMPLE_MIND, help="MIND folder to take titles from"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=8.0,
        help="length of one measurement (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=Path("runs/growth.json"),
        help="file to write the measurements to (default: %(default)s)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="picture to draw")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/growth"),
        help="folder for logs (default: %(default)s)",
    )
    parser.add_argument("--commit", help="commit of the code, if it cannot be read from git")
