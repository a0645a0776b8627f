"""A log's chosen impressions as one matrix, with the scores of towers and language models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.ranker.features import FEATURES, NAMES, TEXT, Floats
from training.errors import TrainingError
from training.metrics import Flags
from training.ranking.log import Log
from training.ranking.moments import Replay, Vectors

TOWER = NAMES.index("tower")
LIVE = np.array([FEATURES[name] == "live" for name in NAMES])
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "impression": pl.String,
    "scores": pl.List(pl.Float32),
}
"""Of files with scores: a row an impression, by its key (training.ranking.log.KEY); a score a
candidate in the order shown."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Impressions one after the other, in the order of time. matrix: [candidates, features], as
    known at the moment. clicked, shown: [candidates]; shown: impressions of the candidate so far.
    sizes, times, ids: [impressions]."""

    matrix: Vectors
    clicked: Flags
    shown: Floats
    sizes: NDArray[np.int64]
    times: NDArray[np.datetime64]
    ids: list[str]

    def take(self, chosen: Flags) -> "Rows":
        """The chosen impressions; chosen: [impressions]. Those that stand side by side are not
        copied."""
        flat = as_slice(np.repeat(chosen, self.sizes))
        return Rows(
            self.matrix[flat],
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


def collect(replay: Replay, log: Log, kept: Flags) -> Rows:
    """The features of the kept impressions; kept: [impressions of the log].

    Raises TrainingError where there are none.
    """
    if not kept.any():
        raise TrainingError("the log holds no impression with labels: there is nothing to learn")
    sizes = log.sizes[kept]
    matrix = np.empty((sizes.sum(), len(NAMES)), np.float32)
    clicked, shown = np.empty(len(matrix), np.bool_), np.empty(len(matrix))
    end = 0
    for found in replay.moments(log, kept):
        own = slice(end, end := end + len(found.matrix))
        matrix[own], clicked[own], shown[own] = found.matrix, found.clicked, found.shown
    ids = log.keys().filter(pl.Series(kept)).to_list()
    return Rows(matrix, clicked, shown, sizes, log.times[kept].view("datetime64[ms]"), ids)


def as_slice(chosen: Flags) -> Flags | slice:
    """The same places as a slice, which does not copy, where they stand side by side."""
    places = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    return slice(*places) if len(places) == 2 else chosen


def without_live(matrix: Vectors) -> Vectors:
    """A copy of the matrix for stories of which no impression is known."""
    copy = matrix.copy()
    copy[:, LIVE] = 0
    return copy


def without_text(matrix: Vectors) -> Vectors:
    """A copy of the matrix in which the language model was not asked."""
    copy = matrix.copy()
    copy[:, TEXT] = np.nan
    return copy


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
    """Write scores into a column of the matrix; returns how many impressions have one.

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
        rows.matrix[end - size : end, column] = own
        placed += 1
    return placed


def has_score(rows: Rows, column: int) -> Flags:
    """Which impressions have a model's score in this column: [impressions]."""
    starts = np.cumsum(rows.sizes) - rows.sizes
    known: Flags = ~np.isnan(rows.matrix[starts, column])
    return known


def has_text(rows: Rows) -> Flags:
    """Which impressions have the language model's score: [impressions]."""
    return has_score(rows, TEXT)
