"""Run Ray Serve with CPU replicas under load and check every answer.

  python -m loadtests.replicas --parts two,kill

Each part starts its own Ray cluster:

  one         one replica with one core
  one-wide    one replica with two cores
  two         two replicas with a core each; each reader keeps to one of them
  two-spread  two replicas with a core each; the less busy one answers
  kill        a replica is killed, then an engine
  adapter     an adapter is rolled out to all replicas, then one that does not exist
  update      a rolling update replaces all replicas

Prints Markdown tables and one line of JSON. Exits with 1 if an answer was wrong or a request hung
or failed with anything but a 503, and with 2 if nothing could be measured.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.options import names
from loadtests.replicas.deployment import Plan
from loadtests.replicas.parts import PARTS, Row
from loadtests.services import ROOT, LoadTestError


@dataclass(frozen=True)
class Options:
    """parts: names of PARTS to measure, in order. plan: what they have in common."""

    parts: list[str]
    plan: Plan


def main() -> int:
    options = parse_options()
    options.plan.folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    try:
        for part in options.parts:
            for row in PARTS[part](options.plan):
                print(json.dumps(row), file=sys.stderr)
                rows.append(row)
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    print(json.dumps(rows))
    return 0 if all(is_right(row) for row in rows) else 1


def parse_options() -> Options:
    """Read the command line; exits with a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.replicas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--parts",
        type=names(PARTS),
        default=list(PARTS),
        help="comma-separated parts to measure (default: all)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=ROOT / "models" / "news-smollm2",
        help="model folder (default: models/news-smollm2)",
    )
    parser.add_argument("--adapter", type=Path, help="LoRA folder of the model, for `adapter`")
    add_load_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "runs" / "replicas",
        help="folder for logs (default: runs/replicas)",
    )
    given = vars(parser.parse_args())
    parts: list[str] = given.pop("parts")
    if "adapter" in parts and given["adapter"] is None:
        parser.error("--adapter: the part `adapter` needs one")
    return Options(parts, Plan(folder=given.pop("output"), **given))


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """The options that are fields of Plan."""
    for option, kind, default, text in (
        ("--seconds", float, 60.0, "length of a measurement"),
        ("--at-once", int, 8, "requests in flight per replica"),
        ("--readers", int, 300, "number of readers"),
        ("--pool", int, 40, "requests whose answers are compared with a quiet run's"),
        ("--cache-mib", int, 256, "KV cache of each engine"),
    ):
        parser.add_argument(option, type=kind, default=default, help=f"{text} (default: {default})")


def table(rows: Sequence[Row]) -> str:
    """One Markdown table for the rows of each kind, leaving out `odd`."""
    lines: list[str] = []
    for columns in dict.fromkeys(tuple(name for name in row if name != "odd") for row in rows):
        lines += ["", f"| {' | '.join(columns).replace('_', ' ')} |", "|---" * len(columns) + "|"]
        lines += [
            f"| {' | '.join(str(row[name]) for name in columns)} |"
            for row in rows
            if tuple(name for name in row if name != "odd") == columns
        ]
    return "\n".join(lines[1:])


def is_right(row: Row) -> bool:
    """Whether each request was answered correctly or refused."""
    return not any(row.get(name) for name in ("wrong", "unknown", "hangs", "failed"))
