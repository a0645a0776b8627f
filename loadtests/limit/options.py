"""The options of `loadtests.limit`, and the setup that follows from them."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.knowledge.shortlists import DEFAULT
from app.scoring.profile import LAYOUTS
from loadtests.limit.machine import Setup
from loadtests.limit.workload import Workload, prepare_model
from loadtests.options import json_object, names, numbers
from loadtests.services import LoadTestError
from loadtests.traffic import EXAMPLE_MIND

PARTS = ("offline", "engine", "http", "shortlist", "vllm", "transformers")
REDUCED_PARTS = ("engine", "http")


@dataclass(frozen=True)
class Options:
    """What to measure and where to write it. Each field is the option of the same name.

    only: parts to measure; None means all. seconds: length of one measurement. history: titles per
    reader. concurrency: stories in flight. shortlist: how many candidates the language model
    judges, each of which is compared with all. visits: of each reader of impressions. ranker: a
    folder with one, or None for the model's own. also: a model whose engine layer is measured, too.
    earlier: files given by --with. out: folder for
    logs.
    """

    model: Path
    load_format: str | None
    engine: dict[str, Any]
    seconds: float
    only: list[str] | None
    reduced: bool
    layout: str
    prefix_multiple: int | None
    history: int
    concurrency: int
    shortlist: list[int]
    visits: int
    ranker: Path | None
    also: Path | None
    mind: Path
    earlier: list[Path]
    json: Path | None
    out: Path
    commit: str | None

    @property
    def parts(self) -> tuple[str, ...]:
        return REDUCED_PARTS if self.reduced else tuple(self.only or PARTS)


def parse_options(description: str | None = None) -> Options:
    """Read the command line; exits with a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.limit",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    add_run_options(parser)
    given = parser.parse_args()
    if given.only and given.reduced:
        parser.error("--reduced always measures engine and http: leave out --only")
    if given.seconds is None:
        given.seconds = 8.0 if given.reduced else 15.0
    for name in ("seconds", "history", "concurrency", "prefix_multiple", "visits"):
        if (value := getattr(given, name)) is not None and value <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    return Options(**vars(given))


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("models/news-smollm2"),
        help="model folder (default: %(default)s)",
    )
    parser.add_argument(
        "--load-format",
        help="vLLM's load format; `dummy` loads random weights, so config and tokenizer suffice",
    )
    parser.add_argument(
        "--engine", type=json_object, default={}, metavar="JSON", help="options of vLLM"
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="tight",
        help="layout of our prompts (default: %(default)s)",
    )
    parser.add_argument(
        "--prefix-multiple",
        type=int,
        metavar="N",
        help="pad our prompts' shared prefix to a multiple of N tokens (default: the model's)",
    )
    parser.add_argument(
        "--history", type=int, default=20, help="titles per reader (default: %(default)s)"
    )
    parser.add_argument(
        "--mind", type=Path, default=EXAMPLE_MIND, help="MIND folder to take titles from"
    )
    parser.add_argument(
        "--ranker",
        type=Path,
        metavar="FOLDER",
        help="a folder with ranker.json, such as adapters/news-smollm2, for a model without one:"
        " what a ranker learned does not change its speed",
    )

    parser.add_argument(
        "--also",
        type=Path,
        metavar="FOLDER",
        help="a model that should be faster, such as one with weights of 8 bits: its engine layer"
        " is measured, too, and with --reduced it must not be slower",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=float,
        help="length of one measurement (default: 15, with --reduced 8)",
    )
    parser.add_argument(
        "--only", type=names(PARTS), help=f"comma-separated parts to measure: {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--reduced", action="store_true", help="measure what CI needs, and fail under 80 %%"
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=64,
        help="stories in flight (default: %(default)s; use 512 on a GPU)",
    )
    parser.add_argument(
        "--shortlist",
        type=numbers,
        default=[DEFAULT],
        metavar="N,…",
        help="how many candidates the language model judges, compared with all of them (default:"
        f" {DEFAULT}, as the service has)",
    )
    parser.add_argument(
        "--visits",
        type=int,
        default=1,
        help="how often each reader of impressions like MIND's comes (default: once, so that no"
        " prompt begins like an earlier one)",
    )
    parser.add_argument(
        "--with",
        dest="earlier",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an earlier --json file of this machine and model to show and compare; repeatable",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write all rows to")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/limit"),
        help="folder for logs (default: %(default)s)",
    )
    parser.add_argument("--commit", help="commit of the code, if it cannot be read from git")


def make_setup(options: Options) -> Setup:
    """Prepare the model and return the setup. Raises LoadTestError if a folder cannot be used."""
    folder = options.out.resolve() / "model"
    try:
        model = prepare_model(
            options.model,
            options.layout,
            options.history,
            folder,
            options.prefix_multiple,
            options.ranker,
        )
        Workload(model, options.mind, options.history)
    except ValueError as error:  # from the profile or the titles
        raise LoadTestError(str(error)) from None
    load_format = {"load_format": options.load_format} if options.load_format else {}
    return Setup(
        model=str(model),
        mind=str(options.mind.resolve()),
        history=options.history,
        layout=options.layout,
        seconds=options.seconds,
        concurrency=options.concurrency,
        engine={**options.engine, **load_format},
        reduced=options.reduced,
    )
