"""Compare variants of a model or service, such as base, adapter and merged, under the same load.

  python -m loadtests.compare base=http://localhost:8000#qwen3-8b \\
      adapter=http://localhost:8000#news-v1 merged=http://localhost:8001 --rate 20
  python -m loadtests.compare base=models/qwen3-8b adapter=models/qwen3-8b+models/news-v1 \\
      merged=models/news-v1-merged --users 8 --objective merged:p95_ms=200

A variant is NAME=URL#MODEL for a running service or NAME=FOLDER+ADAPTER, for which a service is
started. Several models separated by commas may follow the #; each reader keeps to one of them.
Variants take turns, round by round, with the same requests, so that the machine's drift affects
all of them alike. Ratios are relative to the first variant. An open load (--rate) fails below 0.98
of its rate unless --objective rate_share says otherwise.
"""

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
from loadtests.compare.options import KINDS, Options, parse_options
from loadtests.compare.results import Figures, Run
from loadtests.services import (
    ROOT,
    LoadTestError,
    clean_up_on_sigterm,
    free_port,
    last_line,
    serving,
)
from training.folders import write_whole

OPEN_LOAD_USERS = 10
"""Locust needs this many users to mix the kinds of requests by their weights."""
MIN_RATE_SHARE = 0.98


@dataclass(frozen=True)
class Variant:
    """A service to send requests to. models: comma-separated; empty for its default model."""

    name: str
    url: str
    models: str


def main() -> int:
    options = parse_options(__doc__)
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


def find(name: str, target: str, options: Options, stack: ExitStack) -> Variant:
    """The variant that `target` stands for, after starting its service if that is a folder.

    Raises LoadTestError if a folder is missing or the service does not start.
    """
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
        "FRONTPAGE_ENGINE__GPU_MEMORY_UTILIZATION": f"{share:.2f}",  # the environment may override
        **os.environ,
        "FRONTPAGE_PORT": str(port),
        "FRONTPAGE_MODEL": str(model.resolve()),
        "FRONTPAGE_ADAPTERS": json.dumps({one.name: str(one.resolve()) for one in adapters}),
    }
    service = serving(["app"], settings, port, "/ready", options.out / f"{name}.log")
    url, _ = stack.enter_context(service)
    return Variant(name, url, ",".join(adapter.name for adapter in adapters))


def take_turns(variants: list[Variant], options: Options) -> dict[str, list[Run]]:
    """The counted turns of each variant, by its name. Round 0 is the warm-up.

    Raises LoadTestError if a variant answers nothing in a turn.
    """
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


def load(variant: Variant, number: int, seconds: int, options: Options) -> Run:
    """Run one turn in a Locust process, so that Locust's monkey-patching stays there.

    number: of the round. Raises LoadTestError if Locust fails.
    """
    log = options.out / "locust.log"
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as out:
        samples = Path(folder) / "samples"
        command = locust_command(variant, number, seconds, samples, options)
        environment = {**os.environ, "OPENAI_API_KEY": options.api_key}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        if done.returncode:
            raise LoadTestError(f"Locust failed; see {log}, which ends with {last_line(log)!r}")
        return Run(seconds, round((options.rate or 0) * seconds), results.read_samples(samples))


def locust_command(
    variant: Variant, number: int, seconds: int, samples: Path, options: Options
) -> list[str]:
    users = options.users or OPEN_LOAD_USERS
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
    return command + [KINDS[kind] for kind in options.kinds]


def report(runs: dict[str, list[Run]], options: Options) -> int:
    """Print and write the figures; returns 1 if an objective is missed, else 0."""
    figures: dict[str, Figures] = {name: results.measure(turns) for name, turns in runs.items()}
    base = next(iter(figures.values()))
    for one in figures.values():
        results.add_ratios(one, base)
    objectives = {("", "rate_share"): MIN_RATE_SHARE} if options.rate else {}
    missed = results.find_missed(objectives | dict(options.objective), figures)
    target = f"{options.rate:g} requests/s" if options.rate else f"{options.users} users"
    title = f"{', '.join(options.kinds)}: {target}, {options.rounds} rounds of {options.seconds} s"
    write_results(title, figures, runs, missed, options)
    print(f"\n{title}\n\n{results.as_table(figures)}\n\nwritten into {options.out}")
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


def write_results(
    title: str,
    figures: dict[str, Figures],
    runs: dict[str, list[Run]],
    missed: list[str],
    options: Options,
) -> None:
    """Write compare.json and compare.svg."""
    record: dict[str, Any] = {
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
    write_whole(options.out / "compare.json", json.dumps(record, indent=2) + "\n")
    write_whole(options.out / "compare.svg", results.draw(runs, title))
