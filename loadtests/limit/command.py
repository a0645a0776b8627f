"""How near to the hardware's limit the service is, and how far from its peers.

  python -m loadtests.limit --json runs/limit.json
  python -m loadtests.limit --model models/qwen3-8b-shapes --load-format dummy --concurrency 512
  python -m loadtests.limit --reduced

Measures in turn, each in processes of its own: the matrix products of the device, and what they
allow for this model; vLLM offline; our engine layer without HTTP; our service; vLLM's own server;
transformers in a plain FastAPI loop. All get the same options of the engine and questions of the
same kind, none twice: no row profits from the prefix cache of another. Times run from the first
send to the last answer, after a warm-up. What fails is a row that says why.

Prints a Markdown table and, as the last line, the ratios as JSON. --reduced measures the engine
layer and the service only, and ends with 1 where HTTP falls under 80 % of the engine layer.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.scoring.profile import LAYOUTS
from loadtests.limit import peers, processes
from loadtests.limit.machine import Setup, limit_rows
from loadtests.limit.speed import LIMIT, Row, as_record, as_table, find_ratios
from loadtests.limit.workload import Workload, prepare_model
from loadtests.options import json_object, names
from loadtests.services import LoadTestError, clean_up_on_sigterm
from loadtests.traffic import EXAMPLE
from training.folders import write_whole
from training.provenance import commit

NAMES = ("offline", "engine", "http", "vllm", "transformers")
REDUCED = ("engine", "http")
LEAST = {"http_predict_of_engine": 0.8, "http_rank_10_of_engine": 0.8}
SAME, SAME_MACHINE = ("model", "history", "mind"), ("device", "engine", "versions")
"""What an earlier run must have in common with this one, to be shown beside it."""


def main() -> int:
    options = parse()
    clean_up_on_sigterm()
    try:
        result = measure(make_setup(options), options)
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return report(result, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.limit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=Path("models/news-smollm2"))
    parser.add_argument(
        "--load-format", help="vLLM's; dummy: random weights of a folder with config and tokenizer"
    )
    parser.add_argument("--engine", type=json_object, default={}, help="vLLM's options, as JSON")
    parser.add_argument("--seconds", type=float, help="of a measurement (default: 15; reduced: 8)")
    parser.add_argument("--only", type=names(NAMES), help=f"with commas, of {', '.join(NAMES)}")
    parser.add_argument("--reduced", action="store_true", help="for CI: fails under 80 %%")
    parser.add_argument("--layout", choices=LAYOUTS, default="categories", help="of our prompts")
    parser.add_argument(
        "--prefix-multiple", type=int, metavar="N", help="of our prompts (default: the model's)"
    )
    parser.add_argument("--history", type=int, default=20, help="titles a reader (default: 20)")
    parser.add_argument(
        "--concurrency", type=int, default=64, help="stories under way (default: 64; a GPU: 512)"
    )
    parser.add_argument("--mind", type=Path, default=EXAMPLE, help="a MIND folder, for its titles")
    parser.add_argument(
        "--with",
        dest="earlier",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an earlier --json of this machine and model, to show and compare with",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all rows, to write")
    parser.add_argument("--out", type=Path, default=Path("runs/limit"), help="folder for logs")
    parser.add_argument("--commit", help="the code's, where git can't tell")
    options = parser.parse_args()
    if options.only and options.reduced:
        parser.error("--reduced measures engine and http: leave out --only")
    if options.seconds is None:
        options.seconds = 8.0 if options.reduced else 15.0
    for name in ("seconds", "history", "concurrency", "prefix_multiple"):
        if (given := getattr(options, name)) is not None and given <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    return options


def make_setup(options: argparse.Namespace) -> Setup:
    """Raises LoadTestError for folders that won't do."""
    folder = options.out.resolve() / "model"
    try:
        model = prepare_model(
            options.model, options.layout, options.history, folder, options.prefix_multiple
        )
        Workload(model, options.mind, options.history)
    except ValueError as error:  # a profile or titles that can't be read
        raise LoadTestError(str(error)) from None
    dummy = {"load_format": options.load_format} if options.load_format else {}
    return Setup(
        str(model),
        str(options.mind.resolve()),
        options.history,
        options.layout,
        options.seconds,
        options.concurrency,
        {**options.engine, **dummy},
        options.reduced,
    )


def measure(setup: Setup, options: argparse.Namespace) -> dict[str, Any]:
    """The run's record: what was measured, on what, and the ratios."""
    folder = options.out.resolve()
    common = {name: value for name, value in asdict(setup).items() if name not in ("model", "mind")}
    about: dict[str, Any] = {
        "command": " ".join(sys.argv[1:]),
        "commit": options.commit or commit(),
        "model": options.model.resolve().name,
        "mind": options.mind.resolve().name,
        **common,
        "machine": {},
    }
    found: list[Row] = []
    if not options.reduced:
        (about["machine"],) = processes.run_worker("describe", setup, folder)
        found = limit_rows(about["machine"])
    limits = {f"{row.shape} {row.layout}": row.figures["stories_per_s"] for row in found}
    found += [row for file in options.earlier for row in read_earlier(file, about)]
    result: dict[str, Any] = {}
    for name in REDUCED if options.reduced else options.only or NAMES:
        for row in measure_part(name, setup, about["machine"], folder):
            shown = row.error or f"{row.figures['stories_per_s']:.1f} stories/s"
            print(f"{' | '.join(row.key)}: {shown}", file=sys.stderr, flush=True)
            found.append(row.with_limits(about["machine"].get("token_limit_per_s"), limits))
        rows = list({row.key: row for row in found}.values())  # the latest of a kind
        result = {"about": about, "ratios": find_ratios(rows, setup.layout), "rows": rows}
        if options.json:  # what is measured stays, should the next part not end
            save(result, options.json)
    return result


def save(result: dict[str, Any], file: Path) -> None:
    record = {**result, "rows": [as_record(row) for row in result["rows"]]}
    write_whole(file, json.dumps(record, indent=1) + "\n")


def read_earlier(file: Path, about: dict[str, Any]) -> list[Row]:
    """Raises LoadTestError for a file that is no run's, or of something else than this run."""
    try:
        record = json.loads(file.read_bytes())
        rows = [Row(**row) for row in record["rows"]]
        pairs = [(name, record["about"][name], about[name]) for name in SAME]
        there, here = record["about"]["machine"], about["machine"]
        pairs += [(name, there.get(name), here.get(name)) for name in SAME_MACHINE]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LoadTestError(f"--with {file}: no record of a run: {error!r}") from None
    for name, old, new in pairs:
        if old != new:
            raise LoadTestError(f"--with {file}: another {name}: {old}, here {new}")
    return [row for row in rows if row.subject != LIMIT and not row.error]


def measure_part(name: str, setup: Setup, machine: dict[str, Any], folder: Path) -> Iterator[Row]:
    print(f"starting {name}", file=sys.stderr, flush=True)
    workload = Workload(Path(setup.model), Path(setup.mind), setup.history)
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
            case _:
                yield from (Row(**record) for record in processes.run_worker(name, setup, folder))
                return
        with served as (url, pid):
            yield from peers.measure_loads(url, pid, loads, workload, setup.seconds)
    except LoadTestError as error:
        yield Row(name, "", "", error=str(error))


def report(result: dict[str, Any], options: argparse.Namespace) -> int:
    """Print all; 1 if a row of a reduced run failed or is too slow."""
    rows: list[Row] = result["rows"]
    about, ratios = result["about"], result["ratios"]
    missed = find_missed(rows, ratios) if options.reduced else []
    print(f"{as_table(rows)}\n\n{json.dumps({'ratios': ratios, 'about': about})}")
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


def find_missed(rows: Sequence[Row], ratios: dict[str, float]) -> list[str]:
    """A line for each row that failed and each ratio of a reduced run that is too low."""
    lines = [f"{' | '.join(row.key)}: {row.error}" for row in rows if row.error]
    for name, least in LEAST.items():
        if not ratios.get(name, 0.0) >= least:
            lines.append(f"{name} is {ratios.get(name, 'not measured')}, not at least {least}")
    return lines
