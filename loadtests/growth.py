"""How the cost of /rank grows with candidates, history, readers at once and adapters.

  python -m loadtests.growth --json runs/growth.json --plot docs/pictures/growth.png

  python -m loadtests.growth --by adapters --readers 20 --adapter-candidates 50 --base models/base

Two services, one after the other: the model, for the first three; then the base with unmerged
adapters, whose requests take turns. No reader comes twice, so each ranking computes its own prefix.
What is measured is written at once: an error later loses nothing.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.limit import asks, processes
from loadtests.limit.closed_load import Ask
from loadtests.limit.machine import Setup
from loadtests.limit.peers import Load, measure_loads
from loadtests.limit.speed import HTTP
from loadtests.limit.workload import Workload, prepare_model
from loadtests.options import json_object, names
from loadtests.services import LoadTestError, clean_up_on_sigterm
from loadtests.traffic import EXAMPLE
from training.folders import write_whole
from training.provenance import commit

CANDIDATES, HISTORY, READERS, ADAPTERS = "candidates", "history", "readers at once", "adapters"
VALUES = {
    CANDIDATES: (1, 5, 10, 25, 50, 100, 200),
    HISTORY: (0, 5, 10, 20, 40),
    READERS: (1, 2, 4, 8, 16),
    ADAPTERS: (0, 1, 2, 4),
}
USUAL = {CANDIDATES: 50, HISTORY: 20, READERS: 2, ADAPTERS: 0}
"""What is held where another one varies."""


@dataclass(frozen=True)
class Point:
    """One measurement: `by` has `value`, the others are USUAL's."""

    by: str
    value: int
    figures: dict[str, float]


def main() -> int:
    options = parse()
    clean_up_on_sigterm()
    points: list[Point] = []
    try:
        for point in measure(options):
            points.append(point)
            write(points, options)  # what is measured stays, should the next one not end
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
    if points:
        print(as_table(points))
        if options.plot:
            plot(points, options.readers, options.plot)
    return 0 if len(points) == sum(len(VALUES[by]) for by in options.by) else 2


def write(points: list[Point], options: argparse.Namespace) -> None:
    record = {
        "commit": options.commit or commit(),
        "model": options.model.resolve().name,
        "base": options.base.resolve().name,
        "seconds": options.seconds,
        "usual": USUAL | {READERS: options.readers},
        "points": [vars(point) for point in points],
    }
    write_whole(options.json, json.dumps(record, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=Path("models/news-smollm2"))
    parser.add_argument("--base", type=Path, default=Path("models/smollm2-135m-instruct"))
    parser.add_argument("--adapter", type=Path, default=Path("adapters/news-smollm2"))
    parser.add_argument("--engine", type=json_object, default={}, help="vLLM's options, as JSON")
    parser.add_argument("--load-format", help="vLLM's; dummy: random weights")
    parser.add_argument(
        "--by",
        type=names(VALUES),
        default=list(VALUES),
        help=f"with commas, of {', '.join(VALUES)}",
    )
    parser.add_argument(
        "--readers", type=int, default=USUAL[READERS], help="at once where not varied (default: 2)"
    )
    parser.add_argument(
        "--adapter-candidates",
        type=int,
        default=5,
        help="a ranking where adapters vary (default: 5: unmerged ones are slow on a CPU)",
    )
    parser.add_argument("--layout", default="categories")
    parser.add_argument("--mind", type=Path, default=EXAMPLE, help="a MIND folder, for its titles")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a measurement (default: 8)")
    parser.add_argument("--json", type=Path, metavar="FILE", default=Path("runs/growth.json"))
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--out", type=Path, default=Path("runs/growth"), help="folder for logs")
    parser.add_argument("--commit", help="the code's, where git can't tell")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> Iterator[Point]:
    """Raises LoadTestError where a service does not start or a request fails."""
    folder = options.out.resolve()
    setup = partial(make_setup, options, folder)
    if plain := [by for by in options.by if by != ADAPTERS]:
        with processes.our_service(setup(options.model), folder) as served:
            for by in plain:
                for value in VALUES[by]:
                    yield measure_point(by, value, asks.rank, served, setup(options.model), options)
    if ADAPTERS not in options.by:
        return
    known = [f"a{number}" for number in range(max(VALUES[ADAPTERS]))]
    adapters = {name: str(options.adapter.resolve()) for name in known}
    base = setup(options.base)
    with processes.our_service(
        base, folder, {"FRONTPAGE_ADAPTERS": json.dumps(adapters)}
    ) as served:
        for value in VALUES[ADAPTERS]:
            models = known[:value] or [options.base.resolve().name]
            yield measure_point(ADAPTERS, value, in_turn(models), served, base, options)


def make_setup(options: argparse.Namespace, folder: Path, model: Path) -> Setup:
    place = prepare_model(model, options.layout, max(VALUES[HISTORY]), folder / "models")
    mind = str(options.mind.resolve())
    dummy = {"load_format": options.load_format} if options.load_format else {}
    engine = {**options.engine, **dummy}
    return Setup(str(place), mind, USUAL[HISTORY], options.layout, options.seconds, 1, engine)


def in_turn(models: list[str]) -> Callable[[Iterator[Any]], Iterator[Ask]]:
    def ask(questions: Iterator[Any]) -> Iterator[Ask]:
        for number, one in enumerate(asks.rank(questions)):
            body = json.loads(one.body) | {"model": models[number % len(models)]}
            yield replace(one, body=asks.encode(body))

    return ask


def measure_point(
    by: str,
    value: int,
    ask: Callable[[Iterator[Any]], Iterator[Ask]],
    served: tuple[str, int],
    setup: Setup,
    options: argparse.Namespace,
) -> Point:
    held = {READERS: options.readers}
    if by == ADAPTERS:
        held[CANDIDATES] = options.adapter_candidates
    usual = USUAL | held | {by: value}
    workload = Workload(Path(setup.model), options.mind, usual[HISTORY])
    series, targets = f"growth {by} {value}", usual[CANDIDATES]
    load = Load(
        HTTP, f"rank {targets}", setup.layout, usual[READERS], targets, series, ask, least=5
    )
    (row,) = measure_loads(*served, [load], workload, setup.seconds)
    if row.error:
        raise LoadTestError(f"{by} {value}: {row.error}")
    print(
        f"{by} {value}: {row.figures['stories_per_s']:.1f} stories/s", file=sys.stderr, flush=True
    )
    return Point(by, value, row.figures)


def as_table(points: list[Point]) -> str:
    """Markdown."""
    lines = [
        "| by | value | stories/s | p50 ms | p95 ms | tokens computed a story |",
        "|---" * 6 + "|",
    ]
    for point in points:
        cells = [
            f"{point.figures[name]:.1f}"
            for name in ("stories_per_s", "p50_ms", "p95_ms", "computed_per_story")
        ]
        lines.append(f"| {point.by} | {point.value} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(points: list[Point], readers: int, file: Path) -> None:
    """A panel each: time of a ranking by candidates and history, stories a second by the others."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, panels = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for panel, by in zip(panels.flat, VALUES, strict=True):
        name, label = (
            ("p50_ms", "ms a ranking (median)")
            if by in (CANDIDATES, HISTORY)
            else ("stories_per_s", "candidates a second")
        )
        own = [point for point in points if point.by == by]
        panel.plot(
            [point.value for point in own],
            [point.figures[name] for point in own],
            marker="o",
            color="#0f6b5c",
        )
        panel.set_xlabel(
            {ADAPTERS: "unmerged adapters in turn", HISTORY: "titles of history"}.get(by, by)
        )
        panel.set_ylabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.margins(y=0.1)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    held = f"{USUAL[CANDIDATES]} candidates, {USUAL[HISTORY]} titles of history"
    figure.suptitle(f"/rank over HTTP; where not varied: {held}, {readers} readers at once")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
