"""Measure what the store costs /rank, how many events it takes, and how soon a click is seen.

  python -m loadtests.store --postgresql postgresql://user@127.0.0.1/empty --json runs/store.json

Three kinds of service take turns on the same model and rank the same stories for the same readers:
one that keeps nothing and gets all text with each request, one with SQLite and one with PostgreSQL,
which both remember everything and get ids alone. They run one after the other, several times over,
so that a busy machine slows all alike. Then two services on PostgreSQL run at once, for events and
to show how soon one sees clicks that the other was told.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StartupError
from app.files import first_line
from app.store.database import Database
from loadtests.limit.processes import NO_LIMITS, environment
from loadtests.services import ROOT, LoadTestError, clean_up_on_sigterm, free_port, serving
from loadtests.store.measurements import (
    Figures,
    NewsSite,
    compare_ranks,
    measure_events,
    measure_visibility,
    time_ranks,
)
from loadtests.traffic import EXAMPLE_MIND
from training.folders import write_whole
from training.provenance import commit

KEY = "not secret: for load tests"
NOTHING, SQLITE, POSTGRESQL, OTHER = "nothing kept", "SQLite", "PostgreSQL", "another instance"


@dataclass(frozen=True)
class Options:
    """model: the folder of the model to serve. mind: where titles come from. turns: how many times
    each kind of service is started. ranks: how many rankings it gets each time. candidates: per
    ranking. event_seconds: how long events are sent. clicks: how many are looked for at another
    instance. json: the file to write. out: folder for logs and state."""

    postgresql: str
    model: Path
    mind: Path
    turns: int
    ranks: int
    candidates: int
    event_seconds: float
    clicks: int
    json: Path
    out: Path


def parse_options() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--postgresql", required=True, help="URL of an empty database")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "news-smollm2")
    parser.add_argument("--mind", type=Path, default=EXAMPLE_MIND, help="MIND folder for titles")
    parser.add_argument("--turns", type=int, default=3, help="starts of each kind of service")
    parser.add_argument("--ranks", type=int, default=40, help="rankings after each start")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--event-seconds", type=float, default=20.0)
    parser.add_argument("--clicks", type=int, default=100, help="clicks to look for elsewhere")
    parser.add_argument("--json", type=Path, default=Path("runs/store.json"))
    parser.add_argument("--out", type=Path, default=Path("runs/store"))
    return Options(**vars(parser.parse_args()))


def main() -> int:
    options = parse_options()
    clean_up_on_sigterm()
    try:
        figures = asyncio.run(measure(options))
    except (LoadTestError, StartupError, SQLAlchemyError, httpx.HTTPError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    record = {"commit": commit(), "figures": asdict(figures), "options": vars(options)}
    write_whole(options.json, json.dumps(record, indent=1, default=str) + "\n")
    print(as_table(figures))
    return 0


async def measure(options: Options) -> Figures:
    options.out.mkdir(parents=True, exist_ok=True)
    database = Database(options.postgresql)
    database.migrate()
    database.close()
    site = NewsSite.read(options.mind, options.candidates)
    figures = Figures()
    times: dict[str, list[float]] = {name: [] for name in (NOTHING, SQLITE, POSTGRESQL)}
    for turn in range(options.turns):
        first, last = turn * options.ranks, (turn + 1) * options.ranks
        for name in list(times)[turn % 3 :] + list(times)[: turn % 3]:
            with service(name, options) as url:
                times[name] += await time_ranks(site, url, name == NOTHING, first, last)
    compare_ranks(site, times, NOTHING, figures)
    with service(SQLITE, options) as url:
        await measure_events(site, SQLITE, url, options.event_seconds, figures)
    with service(POSTGRESQL, options) as url, service(OTHER, options) as other:
        await measure_events(site, POSTGRESQL, url, options.event_seconds, figures)
        await measure_visibility(site, url, other, options.clicks, figures)
    return figures


@contextmanager
def service(name: str, options: Options) -> Iterator[str]:
    """A service with its own state folder; gives its URL. Raises LoadTestError."""
    port, folder = free_port(), options.out.resolve() / name.replace(" ", "-").lower()
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("frontpage.sqlite*"):
        file.unlink()
    store = {
        NOTHING: {"FRONTPAGE_FEEDBACK_ANSWERS": "0"},
        SQLITE: {"FRONTPAGE_REMEMBER": "true"},
    }.get(name, {"FRONTPAGE_REMEMBER": "true", "FRONTPAGE_STORE": options.postgresql})
    settings = {
        **environment(),
        **NO_LIMITS,
        **store,
        "FRONTPAGE_PORT": str(port),
        "FRONTPAGE_MODEL": str(options.model.resolve()),
        "FRONTPAGE_STATE": str(folder),
        "FRONTPAGE_READER_KEY": KEY,
    }
    with serving(["app"], settings, port, "/ready", folder / "log") as (url, _):
        yield url


def as_table(figures: Figures) -> str:
    lines = ["| measurement | value |", "|---|---|"]
    lines += [f"| {name} | {value:.4g} |" for name, value in figures.values.items()]
    return "\n".join(lines)
