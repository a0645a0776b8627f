"""The record of a run: what was measured, on what, and the ratios; written and read as JSON."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.limit.machine import Setup
from loadtests.limit.options import Options
from loadtests.limit.speed import LIMIT, Row, as_record
from loadtests.services import LoadTestError
from training.folders import write_whole
from training.provenance import commit

COMPARABLE_FIELDS = ("model", "history", "mind")
COMPARABLE_MACHINE_FIELDS = ("device", "engine", "versions")
"""What an earlier run must have in common with this one to be shown beside it."""


@dataclass(frozen=True)
class Record:
    """about: the command, its options and the machine. ratios: by name, see speed.RATIOS."""

    about: dict[str, Any]
    ratios: dict[str, float]
    rows: list[Row]

    def save(self, file: Path) -> None:
        record = {
            "about": self.about,
            "ratios": self.ratios,
            "rows": [as_record(row) for row in self.rows],
        }
        write_whole(file, json.dumps(record, indent=1) + "\n")


def describe_run(setup: Setup, options: Options, machine: dict[str, Any]) -> dict[str, Any]:
    """Record.about. machine: what machine.describe returned; empty in a reduced run."""
    common = {name: value for name, value in asdict(setup).items() if name not in ("model", "mind")}
    return {
        "command": " ".join(sys.argv[1:]),
        "commit": options.commit or commit(),
        "model": options.model.resolve().name,
        "mind": options.mind.resolve().name,
        **common,
        "machine": machine,
    }


def read_earlier(file: Path, about: dict[str, Any]) -> list[Row]:
    """The rows that an earlier run measured, without the limits and the failures.

    about: of this run. Raises LoadTestError if the file is not a record or is not comparable.
    """
    try:
        record = json.loads(file.read_bytes())
        rows = [Row(**row) for row in record["rows"]]
        pairs = [(name, record["about"][name], about[name]) for name in COMPARABLE_FIELDS]
        there, here = record["about"]["machine"], about["machine"]
        pairs += [(name, there.get(name), here.get(name)) for name in COMPARABLE_MACHINE_FIELDS]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LoadTestError(f"--with {file}: not the record of a run: {error!r}") from None
    for name, old, new in pairs:
        if old != new:
            raise LoadTestError(f"--with {file}: {name} differs: {old}, but here {new}")
    return [row for row in rows if row.subject != LIMIT and not row.error]
