"""What is wrong with rows of an input file: named, counted, and an error if it is too much."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from training.errors import TrainingError

ROWS_NAMED = 5
"""How many faulty rows an error names for each reason."""
DETAIL_LENGTH = 60
"""How much an error quotes of what it found."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one row. line: counted from 1. kept: the row stays, without the part that
    is wrong."""

    file: str
    line: int
    reason: str
    detail: str
    kept: bool = False


@dataclass(slots=True)
class FileReport:
    """What was read of one file, gathered while it is read.

    name: the file's name in messages. expected: what should stand where a row is faulty, by the
    fault's reason. rows: its rows. sha256: of its bytes, in hex, once the whole file is read.
    faults: every faulty row. unknown_history: entries of histories that name no known story and
    were left out without being a fault. unit: what a row is called, as its number is counted.
    """

    name: str
    expected: Mapping[str, str]
    rows: int = 0
    sha256: str = ""
    faults: list[Fault] = field(default_factory=list)
    unknown_history: int = 0
    unit: str = "line"

    def add(self, line: int, reason: str, detail: str, kept: bool = False) -> None:
        """Note a faulty row."""
        self.faults.append(Fault(self.name, line, reason, detail, kept))

    def set_aside(
        self, rows: pl.DataFrame, bad: pl.Expr, reason: str, detail: pl.Expr
    ) -> pl.DataFrame:
        """Note the rows that are `bad` and return the others."""
        mask = rows.select(bad.fill_null(True).alias("bad")).to_series()
        if not mask.any():
            return rows
        for line, text in rows.filter(mask).select("line", detail.alias("detail")).iter_rows():
            self.add(line, reason, text or "")
        return rows.filter(~mask)

    def reasons(self) -> dict[str, int]:
        """How many rows are faulty, by reason."""
        return dict(sorted(Counter(fault.reason for fault in self.faults).items()))

    def check(self, max_bad_share: float) -> None:
        """Raise TrainingError for a file without rows, or with too large a share of faulty ones.
        Each row counts once, whether it was dropped or kept in part."""
        if not self.rows:
            raise TrainingError(f"{self.name}: the file is empty; expected {self.expected['rows']}")
        share = len(self.faults) / self.rows
        if share > max_bad_share:
            raise TrainingError(
                f"{self.name}: {len(self.faults):,} of {self.rows:,} rows are faulty ({share:.1%}, "
                f"more than --max-bad-share {max_bad_share:g}): {self.where()}. "
                "Correct the file, or raise --max-bad-share."
            )

    def where(self) -> str:
        """The faults by reason: some lines of each, what was found and what was expected."""
        texts = []
        for reason, count in self.reasons().items():
            lines = [str(fault.line) for fault in self.faults if fault.reason == reason]
            more = ", …" if count > ROWS_NAMED else ""
            first = next(fault.detail for fault in self.faults if fault.reason == reason)
            found = f"found {first[:DETAIL_LENGTH]!r}, " if first else ""
            texts.append(
                f"{reason} {count:,} ({self.unit} {', '.join(lines[:ROWS_NAMED])}{more}):"
                f" {found}expected {self.expected[reason]}"
            )
        return "; ".join(texts)
