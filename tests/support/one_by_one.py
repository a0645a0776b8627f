"""A log replayed one impression after the other through the code that serves: the reference for
training.ranking.moments."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

import polars as pl

from app.likeness.cosine import cosines
from app.ranker.features import Floats, Known, count_matches, features
from app.signals.counters import HalfLives
from app.signals.gate import GateLimits
from app.signals.live import LiveFigures, ShownStory, SignalOptions
from training.ranking.moments import Catalogue

PAIRS = 1 << 22
"""Of readers and stories that the gate remembers: of so many places, few pairs share one."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One impression: the matrix and impressions of each candidate so far."""

    features: Floats
    shown: Floats


class OneByOne:
    """Reads a log and yields the features of its impressions with labels, counting as it goes."""

    def __init__(self, catalogue: Catalogue, half_lives: HalfLives) -> None:
        self.catalogue = catalogue
        self.ids = [f"N{number}" for number in range(len(catalogue.categories))]
        limits = GateLimits(key_limit=None, memory=PAIRS)
        self.live = LiveFigures(SignalOptions(half_lives, len(self.ids), limits))

    def moments(self, log: pl.DataFrame) -> Iterator[Moment]:
        for _, group in groupby(log.iter_rows(named=True), key=lambda row: row["time"]):
            rows = list(group)
            for row in rows:
                if row["clicked"] is not None:
                    yield self.describe(row)
            for row in rows:
                self.count(row)

    def describe(self, row: dict[str, list[int]]) -> Moment:
        ids = [self.ids[index] for index in row["candidates"]]
        time, groups = moment(row), self.catalogue.categories
        categories = [groups[index] for index in row["candidates"]]
        figures = self.live.figures(ids, categories, time.timestamp())
        vectors = self.catalogue.vectors
        known = Known(
            figures=figures,
            cosines=None
            if vectors is None
            else cosines(vectors[row["history"]], vectors[row["candidates"]]),
            tower=None,
            category_count=count_matches(categories, [groups[index] for index in row["history"]]),
            history_length=len(row["history"]),
            times_passed=count_matches(ids, [self.ids[index] for index in row["disliked"]]),
            times_clicked=count_matches(ids, [self.ids[index] for index in row["liked"]]),
            hour=time.hour + time.minute / 60,
        )
        return Moment(features(known), figures.shown)

    def count(self, row: dict[str, list[int]]) -> None:
        shown = [
            ShownStory(self.ids[index], self.catalogue.categories[index])
            for index in row["candidates"]
        ]
        user, seconds = str(row["user"]), moment(row).timestamp()
        self.live.shown(user, shown, seconds)
        clicks = [story for story, click in zip(shown, row["clicked"] or [], strict=False) if click]
        self.live.clicked(user, clicks, seconds)


def moment(row: dict[str, list[int]]) -> datetime:
    """The row's time, taken for UTC."""
    time = row["time"]
    assert isinstance(time, datetime)
    return time.replace(tzinfo=UTC)
