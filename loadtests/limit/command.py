"""Measure how close the service gets to the hardware's limit, and how it compares with its peers.

  python -m loadtests.limit --json runs/limit.json
  python -m loadtests.limit --model models/qwen3-8b-shapes --load-format dummy --concurrency 512
  python -m loadtests.limit --only shortlist --shortlist 20,10 --ranker adapters/news-smollm2
  python -m loadtests.limit --reduced

These are measured one after the other, each in its own processes: the matrix products of the device
and what they allow for this model; vLLM offline; our engine layer without HTTP; our service; vLLM's
own server; transformers in a plain FastAPI loop; and our service's rankings with all stories judged
and with a shortlist, in turns. All get the same engine options and questions of
the same kind. No question comes twice, so no row profits from another one's prefix cache. Times run
from the first send to the last answer, after a warm-up. A failure becomes a row that says why.

Prints a Markdown table and, as the last line, the ratios as JSON. --reduced measures only the
engine layer and the service, and exits with 1 if HTTP reaches less than 80 % of the engine layer,
or if the model of --also is slower.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.ranker.ranker import DESCRIPTION_FILE
from loadtests.limit import peers, processes
from loadtests.limit.machine import Setup, limit_rows
from loadtests.limit.options import Options, make_setup, parse_options
from loadtests.limit.record import Record, describe_run, read_earlier
from loadtests.limit.shortlists import MOST_STORIES, Plan, get_known, measure_shortlists
from loadtests.limit.speed import ALSO, Row, as_table, find_ratios
from loadtests.limit.workload import Workload
from loadtests.services import LoadTestError, clean_up_on_sigterm

REQUIRED_RATIOS = {"http_predict_of_engine": 0.8, "http_rank_10_of_engine": 0.8}
"""What a reduced run must reach."""
REQUIRED_OF_ALSO = {"also_rank_10_to_engine": 1.0}
"""And with --also."""


def main() -> int:
    options = parse_options(__doc__)
    clean_up_on_sigterm()
    try:
        record = measure(make_setup(options), options)
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    required = REQUIRED_RATIOS | (REQUIRED_OF_ALSO if options.also else {})
    return report(record, required if options.reduced else None)


def measure(setup: Setup, options: Options) -> Record:
    """Measure all parts. Raises LoadTestError if the machine or an earlier run cannot be read."""
    also = make_also(options)
    folder = options.out.resolve()
    machine: dict[str, Any] = {}
    found: list[Row] = []
    if not options.reduced:
        (machine,) = processes.run_worker("describe", setup, folder)
        found = limit_rows(machine)
    limits = {f"{row.shape} {row.layout}": row.figures["stories_per_s"] for row in found}
    about = describe_run(setup, options, machine)
    found += [row for file in options.earlier for row in read_earlier(file, about)]
    plan = Plan(options.shortlist, options.visits)
    for part in options.parts:
        for row in measure_part(part, setup, also, machine, folder, plan):
            shown = row.error or f"{row.figures['stories_per_s']:.1f} stories/s"
            print(f"{' | '.join(row.key)}: {shown}", file=sys.stderr, flush=True)
            found.append(row.with_limits(machine.get("token_limit_per_s"), limits))
        rows = list({row.key: row for row in found}.values())  # the latest row of each key
        record = Record(about, find_ratios(rows, setup.layout), rows)
        if options.json:  # after each part, so that a crash in the next one loses nothing
            record.save(options.json)
    return record


def make_also(options: Options) -> Setup | None:
    """The setup with the model of --also."""
    if options.also is None:
        return None
    return make_setup(replace(options, model=options.also, out=options.out / "also"))


def measure_part(
    name: str,
    setup: Setup,
    also: Setup | None,
    machine: dict[str, Any],
    folder: Path,
    plan: Plan,
) -> Iterator[Row]:
    """Measure one of options.PARTS; if it cannot start, the only row says why."""
    print(f"starting {name}", file=sys.stderr, flush=True)
    with_ranker = (Path(setup.model) / DESCRIPTION_FILE).is_file()
    most = MOST_STORIES if name == "shortlist" or (name == "http" and with_ranker) else None
    workload = Workload(Path(setup.model), Path(setup.mind), setup.history, most)
    engine, preload = machine.get("engine", {}), machine.get("preload", "")
    served: AbstractContextManager[tuple[str, int]]
    try:
        match name:
            case "http":
                served, loads = processes.our_service(setup, folder), peers.our_loads(setup)
            case "vllm":
                served = processes.vllm_server(setup, engine, preload, folder)
                loads = peers.vllm_loads(setup, workload)
            case "transformers":
                served = processes.plain_server(setup, preload, folder)
                loads = peers.plain_loads(workload)
            case "shortlist":
                with processes.our_service(setup, folder) as (url, pid):
                    yield from measure_shortlists(url, pid, setup, workload, plan)
                return
            case _:
                yield from (Row(**record) for record in processes.run_worker(name, setup, folder))
                if name == "engine" and also:
                    for record in processes.run_worker(name, also, folder):
                        yield Row(**record | {"subject": ALSO})
                return
        with served as (url, pid):
            if name == "http" and with_ranker:
                get_known(url, workload)
            yield from peers.measure_loads(url, pid, loads, workload, setup.seconds)
    except LoadTestError as error:
        yield Row(name, "", "", error=str(error))


def report(record: Record, required: Mapping[str, float] | None) -> int:
    """Print everything; returns 1 if a row failed or a required ratio is too low, else 0.

    required: the least values by ratio; None: nothing is required."""
    missed = [] if required is None else find_missed(record.rows, record.ratios, required)
    shown = json.dumps({"ratios": record.ratios, "about": record.about})
    print(f"{as_table(record.rows)}\n\n{shown}")
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


def find_missed(
    rows: Sequence[Row], ratios: Mapping[str, float], required: Mapping[str, float]
) -> list[str]:
    """One line per row that failed and per required ratio that is too low or was not measured."""
    lines = [f"{' | '.join(row.key)}: {row.error}" for row in rows if row.error]
    for name, least in required.items():
        if not ratios.get(name, 0.0) >= least:
            lines.append(f"{name} is {ratios.get(name, 'not measured')}, not at least {least}")
    return lines
