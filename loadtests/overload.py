"""Send several times more rankings than the language model can judge, and see what is answered.

  python -m loadtests.overload --mind "$MIND/train" --json runs/overload.json

The capacity is measured first and last, in a closed load whose requests demand the language model.
In between comes an open load of --times the first figure. No reader comes twice. The titles are
known to the service before anything is measured, as a site's are, unless --unknown is given.

Prints what share was answered with 200, how many of these a second were judged by the language
model, against the mean of both capacities, and how long both kinds took. Exits with 1 if anything
else was answered.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.limit import requests
from loadtests.limit.closed_load import Request, send_closed
from loadtests.limit.open_load import Answer, send_open
from loadtests.limit.processes import usual_service
from loadtests.limit.shortlists import MOST_STORIES, get_known
from loadtests.limit.speed import duration
from loadtests.limit.workload import Workload
from loadtests.services import LoadTestError, clean_up_on_sigterm
from loadtests.traffic import EXAMPLE_MIND
from training.folders import write_whole
from training.provenance import commit

OK = 200


@dataclass(frozen=True)
class Figures:
    """capacity: rankings a second that the language model judges, before and after the overload.
    judged, degraded: milliseconds that each of these answers took. judged_per_s: those answered
    while requests were still coming. statuses: how many answers had each; 0 is no answer."""

    rate: float
    seconds: float
    capacity: tuple[float, float]
    judged_per_s: float
    judged: list[float]
    degraded: list[float]
    statuses: dict[int, int]

    @property
    def answered_share(self) -> float:
        return self.statuses.get(OK, 0) / sum(self.statuses.values())

    @property
    def capacity_share(self) -> float:
        return self.judged_per_s / float(np.mean(self.capacity))


def demanding(asked: Iterator[Request]) -> Iterator[Request]:
    """The same requests, which take no answer without the language model."""
    for one in asked:
        body = json.loads(one.body) | {"degraded": "refuse"}
        yield replace(one, body=requests.encode(body))


def measure(url: str, workload: Workload, options: argparse.Namespace) -> Figures:
    """Raises LoadTestError if a request of the closed loads is refused."""

    def asked(series: str) -> Iterator[Request]:
        return requests.rank(workload.questions(f"overload {series}", options.candidates))

    def capacity(series: str) -> float:
        send = send_closed(url, demanding(asked(series)), options.at_once, options.capacity_seconds)
        calls = asyncio.run(send)
        found = len(calls) / duration(calls)
        print(f"{series}: {found:.2f} rankings/s", file=sys.stderr, flush=True)
        return found

    if not options.unknown:
        get_known(url, workload)
    capacity("warm-up")
    before = capacity("capacity, before")
    rate = before * options.times
    answers = asyncio.run(send_open(url, asked("overload"), rate, options.seconds))
    return summary(answers, rate, options.seconds, (before, capacity("capacity, after")))


def summary(
    answers: Sequence[Answer], rate: float, seconds: float, capacity: tuple[float, float]
) -> Figures:
    """rate: requests sent a second."""
    good = [one for one in answers if one.status == OK]
    return Figures(
        rate=rate,
        seconds=seconds,
        capacity=capacity,
        judged_per_s=sum(not one.degraded and one.done <= seconds for one in good) / seconds,
        judged=[1e3 * one.took for one in good if not one.degraded],
        degraded=[1e3 * one.took for one in good if one.degraded],
        statuses=dict(Counter(one.status for one in answers)),
    )


def as_table(found: Figures) -> str:
    """Markdown."""

    def times(took: Sequence[float]) -> str:
        if not took:
            return "–"
        return ", ".join(f"{np.percentile(took, share):,.0f}" for share in (50, 95))

    others = {status: count for status, count in found.statuses.items() if status != OK}
    rows = [
        ("rankings sent a second", f"{found.rate:.1f} for {found.seconds:.0f} s"),
        ("answered with 200", f"{found.answered_share:.1%}"),
        ("other answers", ", ".join(f"{n} × {status}" for status, n in others.items()) or "none"),
        ("capacity a second, before and after", ", ".join(f"{one:.2f}" for one in found.capacity)),
        ("by the language model, a second", f"{found.judged_per_s:.2f}"),
        ("by the language model, of the capacity", f"{found.capacity_share:.0%}"),
        ("by the language model, p50, p95 ms", times(found.judged)),
        ("degraded, p50, p95 ms", times(found.degraded)),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> int:
    options = parse_options()
    clean_up_on_sigterm()
    service = nullcontext(options.url) if options.url else usual_service(options.model, options.out)
    try:
        workload = Workload(options.model, options.mind, options.history, MOST_STORIES)
        with service as url:
            found = measure(url, workload, options)
    except (LoadTestError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    record: dict[str, Any] = {"commit": options.commit or commit(), **asdict(found)}
    write_whole(options.json, json.dumps(record, indent=1) + "\n")
    print(as_table(found))
    return 0 if found.answered_share == 1 else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.overload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = "(default: %(default)s)"
    add = parser.add_argument
    add("--url", help="of a running service of the same model (default: start one)")
    add("--model", type=Path, default=Path("models/news-smollm2"), help=f"model folder {default}")
    add("--mind", type=Path, default=EXAMPLE_MIND, help="MIND folder to take titles from")
    add("--history", type=int, default=20, help=f"titles per reader {default}")
    add("--candidates", type=int, default=50, help=f"per ranking {default}")
    add("--times", type=float, default=5.0, help=f"how often the capacity is sent {default}")
    add("--seconds", type=float, default=60.0, help=f"of the overload {default}")
    add("--capacity-seconds", type=float, default=20.0, help=f"of the closed loads {default}")
    add("--at-once", type=int, default=4, help=f"rankings in flight in these {default}")
    add("--unknown", action="store_true", help="leave the titles unknown to the service")
    add("--json", type=Path, metavar="FILE", default=Path("runs/overload.json"), help=default)
    add("--out", type=Path, default=Path("runs/overload"), help=f"folder for logs {default}")
    add("--commit", help="commit of the code, if it cannot be read from git")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
