"""Base, adapter and merged model side by side under the same load.

  python -m loadtests.compare base=http://localhost:8000#qwen3-8b \\
      adapter=http://localhost:8000#news-v1 merged=http://localhost:8001 --rate 20
  python -m loadtests.compare base=models/qwen3-8b adapter=models/qwen3-8b+models/news-v1 \\
      merged=models/news-v1-merged --users 8 --objective merged:p95_ms=200

A variant is NAME=URL#MODEL of a running service (several models with commas: each reader has one of
them) or NAME=FOLDER+ADAPTER, for which a service is started. Variants take turns, round by round,
with the same requests, so that a machine's drift meets all alike; ratios are to the first variant.
An open load (--rate) fails below 0.98 of its rate unless --objective rate_share says otherwise.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.compare import results
from loadtests.compare.results import Figures, Run
from loadtests.options import names
from loadtests.services import (
    ROOT,
    LoadTestError,
    clean_up_on_sigterm,
    free_port,
    last_line,
    serving,
)
from loadtests.traffic import EXAMPLE
from training.folders import write_whole

KINDS = {"predict": "PredictUser", "rank": "RankUser", "chat": "ChatUser"}
OPEN_USERS = 10  # as many as Locust needs to mix the kinds by their weights
RATE_SHARE = 0.98


@dataclass(frozen=True)
class Variant:
    name: str
    url: str
    models: str


def main() -> int:
    options = parse()
    clean_up_on_sigterm()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            variants = [find(name, target, options, stack) for name, target in options.variants]
            runs = take_turns(variants, options)
        return report(runs, options)
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("variants", nargs="+", type=named, metavar="NAME=URL#MODEL|NAME=FOLDER")
    load = parser.add_mutually_exclusive_group(required=True)
    load.add_argument("--rate", type=float, help="open load: requests a second")
    load.add_argument("--users", type=int, help="closed load: requests under way at all times")
    parser.add_argument(
        "--kinds", type=names(KINDS), default="rank", help=f"with commas, of {', '.join(KINDS)}"
    )
    parser.add_argument("--seconds", type=int, default=30, help="of a variant's turn (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each variant (default: 3)")
    parser.add_argument("--warmup", type=int, default=5, help="seconds before, not counted")
    figures = ", ".join((*results.AT_LEAST, *results.AT_MOST))
    parser.add_argument(
        "--objective",
        action="append",
        default=[],
        type=objective,
        metavar="[NAME:]FIGURE=LIMIT",
        help=f"for each variant, or the one named; may be repeated. Figures: {figures}",
    )
    parser.add_argument("--mind", type=Path, default=EXAMPLE, help="a MIND folder, for its titles")
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for an answer")
    parser.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY", ""))
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder to write")
    options = parser.parse_args()
    variants = [name for name, _ in options.variants]
    if len(set(variants)) < len(variants):
        parser.error("two variants have the same name")
    for (variant, _), _ in options.objective:
        if variant not in ("", *variants):
            parser.error(f"--objective: no variant {variant}")
    return options


def named(text: str) -> tuple[str, str]:
    name, found, target = text.partition("=")
    if not (name and found and target):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=URL#MODEL or NAME=FOLDER")
    return name, target


def objective(text: str) -> tuple[tuple[str, str], float]:
    where, _, limit = text.rpartition("=")
    variant, _, figure = where.rpartition(":")
    if figure not in (*results.AT_LEAST, *results.AT_MOST):
        raise argparse.ArgumentTypeError(f"no figure {figure!r}; see --help")
    return (variant, figure), float(limit)


def find(name: str, target: str, options: argparse.Namespace, stack: ExitStack) -> Variant:
    """A variant that can be asked: its service is started if it is a folder."""
    if target.startswith(("http://", "https://")):
        url, _, models = target.partition("#")
        return Variant(name, url.rstrip("/"), models)
    model, *adapters = (Path(part) for part in target.split("+"))
    print(f"starting {name}", flush=True)
    for folder in (model, *adapters):
        if not folder.is_dir():
            raise LoadTestError(f"no folder {folder}: a variant is NAME=URL#MODEL or NAME=FOLDER")
    port, share = free_port(), 0.9 / sum("://" not in each for _, each in options.variants)
    settings = {
        "FRONTPAGE_ENGINE__GPU_MEMORY_UTILIZATION": f"{share:.2f}",  # unless os.environ has one
        **os.environ,
        "FRONTPAGE_PORT": str(port),
        "FRONTPAGE_MODEL": str(model.resolve()),
        "FRONTPAGE_ADAPTERS": json.dumps({one.name: str(one.resolve()) for one in adapters}),
    }
    service = serving(["app"], settings, port, "/ready", options.out / f"{name}.log")
    url, _ = stack.enter_context(service)
    return Variant(name, url, ",".join(adapter.name for adapter in adapters))


def take_turns(variants: list[Variant], options: argparse.Namespace) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {variant.name: [] for variant in variants}
    for number in range(0 if options.warmup else 1, options.rounds + 1):
        for variant in variants:
            seconds = options.seconds if number else options.warmup
            run = load(variant, number, seconds, options)
            figures = results.measure([run])
            shown = f"{figures['answers_per_s']:.1f} answers/s, p50 {figures['p50_ms']:.1f} ms"
            label = f"round {number}" if number else "warm-up"
            print(f"{label}, {variant.name}: {shown}", flush=True)
            if not run.answered:
                errors = next(iter(results.count_errors([run])), "nothing was sent")
                raise LoadTestError(f"{variant.name} at {variant.url} answered nothing: {errors}")
            if number:
                runs[variant.name].append(run)
    return runs


def load(variant: Variant, number: int, seconds: int, options: argparse.Namespace) -> Run:
    """One turn, by a Locust process of its own: its monkey-patching stays there."""
    users = options.users or OPEN_USERS
    log = options.out / "locust.log"
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as out:
        samples = Path(folder) / "samples"
        given = {
            "host": variant.url,
            "model": variant.models,
            "rate": options.rate or 0,
            "users": users,
            "spawn-rate": users,
            "run-time": seconds,
            "part": number,
            "samples": samples,
            "mind": options.mind.resolve(),
            "readers": options.readers,
            "timeout": options.timeout,
        }
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"]
        command += ["--only-summary", "--exit-code-on-error", "0"]
        command += [f"--{name}={value}" for name, value in given.items()]
        command += [KINDS[kind] for kind in options.kinds]
        environment = {**os.environ, "OPENAI_API_KEY": options.api_key}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        if done.returncode:
            raise LoadTestError(f"Locust failed; see {log}, which ends with {last_line(log)!r}")
        return Run(seconds, round((options.rate or 0) * seconds), results.read_samples(samples))


def report(runs: dict[str, list[Run]], options: argparse.Namespace) -> int:
    """Print and write the figures; 1 if an objective is missed."""
    figures: dict[str, Figures] = {name: results.measure(turns) for name, turns in runs.items()}
    base = next(iter(figures.values()))
    for one in figures.values():
        results.add_ratios(one, base)
    objectives = {("", "rate_share"): RATE_SHARE} if options.rate else {}
    missed = results.find_missed(objectives | dict(options.objective), figures)
    ask = f"{options.rate:g} requests/s" if options.rate else f"{options.users} users"
    title = f"{', '.join(options.kinds)}: {ask}, {options.rounds} rounds of {options.seconds} s"
    written: dict[str, Any] = {
        "load": title,
        "targets": dict(options.variants),
        "variants": {
            name: {
                **figures[name],
                "errors": results.count_errors(turns),
                "rounds": [results.measure([turn]) for turn in turns],
            }
            for name, turns in runs.items()
        },
        "missed": missed,
    }
    for name, text in (
        ("compare.json", json.dumps(written, indent=2) + "\n"),
        ("compare.svg", results.draw(runs, title)),
    ):
        write_whole(options.out / name, text)
    print(f"\n{title}\n\n{results.as_table(figures)}\n\nwritten into {options.out}")
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0
