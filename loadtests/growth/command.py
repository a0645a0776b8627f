"""Measure how the cost of /rank grows with candidates, history, readers at once and adapters.

Candidates are varied with all of them judged by the language model and with the usual shortlist.

  python -m loadtests.growth --json runs/growth.json --plot docs/pictures/growth.png

  python -m loadtests.growth --by adapters --readers 20 --adapter-candidates 50 --base models/base

Two services run one after the other: the model for the first three quantities, then the base with
unmerged adapters, which the requests use in turn. No reader comes twice, so each ranking computes
its own prefix. Each measurement is written immediately, so a later error loses nothing.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from app.knowledge.shortlists import DEFAULT
from loadtests.growth.options import Options, parse_options
from loadtests.growth.points import (
    ADAPTERS,
    CANDIDATES,
    HELD_VALUES,
    HISTORY,
    READERS,
    SHORTLISTED,
    VALUES,
    Point,
    as_table,
    plot,
)
from loadtests.limit import processes, requests
from loadtests.limit.closed_load import Request
from loadtests.limit.machine import Setup
from loadtests.limit.peers import Load, measure_loads
from loadtests.limit.requests import Questions
from loadtests.limit.shortlists import MOST_STORIES, get_known
from loadtests.limit.speed import HTTP
from loadtests.limit.workload import Workload, prepare_model
from loadtests.services import LoadTestError, clean_up_on_sigterm
from training.folders import write_whole
from training.provenance import commit

MIN_CALLS = 5


def main() -> int:
    options = parse_options(__doc__)
    clean_up_on_sigterm()
    points: list[Point] = []
    try:
        for point in measure(options):
            points.append(point)
            write(points, options)  # after each point, so that a crash in the next loses nothing
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
    if points:
        print(as_table(points))
        if options.plot:
            plot(points, options.readers, options.plot)
    return 0 if len(points) == sum(len(VALUES[by]) for by in options.by) else 2


def write(points: Sequence[Point], options: Options) -> None:
    record = {
        "commit": options.commit or commit(),
        "model": options.model.resolve().name,
        "base": options.base.resolve().name,
        "seconds": options.seconds,
        "usual": HELD_VALUES | {READERS: options.readers},
        "points": [vars(point) for point in points],
    }
    write_whole(options.json, json.dumps(record, indent=1) + "\n")


def measure(options: Options) -> Iterator[Point]:
    """Raises LoadTestError if a service does not start or a request fails."""
    if varied := [by for by in options.by if by != ADAPTERS]:
        yield from measure_model(varied, options)
    if ADAPTERS in options.by:
        yield from measure_adapters(options)


def measure_model(varied: Sequence[str], options: Options) -> Iterator[Point]:
    setup = make_setup(options.model, options)
    with processes.our_service(setup, options.out.resolve()) as served:
        for by in varied:
            rank = requests.rank
            if by == SHORTLISTED:
                get_known(served[0], make_workload(by, setup.history, setup, options))
                rank = partial(requests.rank, shortlist=DEFAULT)
            for value in VALUES[by]:
                yield measure_point(by, value, rank, served, setup, options)


def measure_adapters(options: Options) -> Iterator[Point]:
    """Serve the same adapter under several names, and use more and more of them."""
    known = [f"a{number}" for number in range(max(VALUES[ADAPTERS]))]
    adapters = {name: str(options.adapter.resolve()) for name in known}
    settings = {"FRONTPAGE_ADAPTERS": json.dumps(adapters)}
    setup = make_setup(options.base, options)
    with processes.our_service(setup, options.out.resolve(), settings) as served:
        for value in VALUES[ADAPTERS]:
            models = known[:value] or [options.base.resolve().name]
            yield measure_point(ADAPTERS, value, in_turn(models), served, setup, options)


def make_setup(model: Path, options: Options) -> Setup:
    """Prepare the model, and return the setup. Raises LoadTestError if it lacks a file."""
    folder = options.out.resolve() / "models"
    load_format = {"load_format": options.load_format} if options.load_format else {}
    return Setup(
        model=str(prepare_model(model, options.layout, max(VALUES[HISTORY]), folder)),
        mind=str(options.mind.resolve()),
        history=HELD_VALUES[HISTORY],
        layout=options.layout,
        seconds=options.seconds,
        concurrency=1,
        engine={**options.engine, **load_format},
    )


def in_turn(models: Sequence[str]) -> Callable[[Questions], Iterator[Request]]:
    """A variant of requests.rank that asks for one model after the other."""

    def rank(questions: Questions) -> Iterator[Request]:
        for number, one in enumerate(requests.rank(questions)):
            body = json.loads(one.body) | {"model": models[number % len(models)]}
            yield replace(one, body=requests.encode(body))

    return rank


def make_workload(by: str, history: int, setup: Setup, options: Options) -> Workload:
    most = MOST_STORIES if by == SHORTLISTED else None
    return Workload(Path(setup.model), options.mind, history, most)


def measure_point(
    by: str,
    value: int,
    rank: Callable[[Questions], Iterator[Request]],
    served: tuple[str, int],
    setup: Setup,
    options: Options,
) -> Point:
    """Raises LoadTestError if a request fails. served: URL and process ID."""
    held = {READERS: options.readers}
    if by == ADAPTERS:
        held[CANDIDATES] = options.adapter_candidates
    values = HELD_VALUES | held | {CANDIDATES if by == SHORTLISTED else by: value}
    workload = make_workload(by, values[HISTORY], setup, options)
    load = Load(
        HTTP,
        shape=f"rank {values[CANDIDATES]}",
        layout=setup.layout,
        at_once=values[READERS],
        targets=values[CANDIDATES],
        series=f"growth {by} {value}",
        requests=rank,
        min_calls=MIN_CALLS,
    )
    (row,) = measure_loads(*served, [load], workload, setup.seconds)
    if row.error:
        raise LoadTestError(f"{by} {value}: {row.error}")
    speed = f"{row.figures['stories_per_s']:.1f} stories/s"
    print(f"{by} {value}: {speed}", file=sys.stderr, flush=True)
    return Point(by, value, row.figures)
