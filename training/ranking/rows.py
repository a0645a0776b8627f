"""All impressions of a log as one matrix, with the scores of towers and language models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.ranker.features import NAMES, TEXT, Floats
from training.errors import TrainingError
from training.metrics import Flags
from training.ranking.moments import Moment

TOWER = NAMES.index("tower")
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "impression": pl.String,
    "scores": pl.List(pl.Float32),
}
"""Of files with scores: a row an impression, by its key (training.ranking.moments.row_key); a score
a candidate in the order shown."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Impressions one after the other. matrix, fresh: [candidates, features], as known at the
    moment and without live figures. clicked, shown: [candidates]. sizes, times, ids:
    [impressions]."""

    matrix: Floats
    fresh: Floats
    clicked: Flags
    shown: Floats
    sizes: NDArray[np.int64]
    times: NDArray[np.datetime64]
    ids: list[str]

    def take(self, chosen: Flags) -> "Rows":
        """The chosen impressions; chosen: [impressions]."""
        flat = np.repeat(chosen, self.sizes)
        return Rows(
            self.matrix[flat],
            self.fresh[flat],
            self.clicked[flat],
            self.shown[flat],
            self.sizes[chosen],
            self.times[chosen],
            [name for name, kept in zip(self.ids, chosen, strict=True) if kept],
        )

    def split(self, values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        """Values [candidates] by impression."""
        return np.split(values, np.cumsum(self.sizes)[:-1])

    def before(self, time: datetime | None) -> Flags:
        """Which impressions are earlier; all without a time."""
        if time is None:
            return np.ones(len(self.ids), np.bool_)
        return self.times < np.datetime64(time)


def collect(moments: Iterable[Moment]) -> Rows:
    """Raises TrainingError for a log without labelled impressions."""
    found = list(moments)
    if not found:
        raise TrainingError("the log holds no impression with labels: there is nothing to learn")
    return Rows(
        matrix=np.concatenate([moment.features for moment in found]),
        fresh=np.concatenate([moment.fresh for moment in found]),
        clicked=np.concatenate([moment.clicked for moment in found]),
        shown=np.concatenate([moment.shown for moment in found]),
        sizes=np.array([len(moment.clicked) for moment in found], np.int64),
        times=np.array([moment.time for moment in found], "datetime64[ms]"),
        ids=[moment.id for moment in found],
    )


def read_scores(file: Path) -> dict[str, Floats]:
    """Scores by impression. Raises TrainingError for a file of another kind."""
    try:
        table = pl.read_parquet(file)
        pairs = table.select("impression", "scores").iter_rows()
        return {name: np.array(scores, np.float64) for name, scores in pairs}
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TrainingError(f"{file} holds no scores: {error}") from None


def write_scores(file: Path, scores: Mapping[str, Sequence[float]]) -> None:
    """Write what read_scores reads, whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {"impression": list(scores), "scores": [list(map(float, s)) for s in scores.values()]}
    pl.DataFrame(columns, schema=SCHEMA).write_parquet(partial)
    partial.replace(file)


def place_scores(rows: Rows, scores: Mapping[str, Floats], column: int) -> int:
    """Write scores into a column of both matrices; returns how many impressions have one.

    Raises TrainingError where an impression has another number of candidates than scores.
    """
    ends = np.cumsum(rows.sizes)
    placed = 0
    for name, end, size in zip(rows.ids, ends, rows.sizes, strict=True):
        own = scores.get(name)
        if own is None:
            continue
        if len(own) != size:
            raise TrainingError(f"impression {name} has {size} candidates, but {len(own)} scores")
        rows.matrix[end - size : end, column] = rows.fresh[end - size : end, column] = own
        placed += 1
    return placed


def has_text(rows: Rows) -> Flags:
    """Which impressions have the language model's score: [impressions]."""
    starts = np.cumsum(rows.sizes) - rows.sizes
    known: Flags = ~np.isnan(rows.matrix[starts, TEXT])
    return known
