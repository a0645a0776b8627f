"""What was known of each impression's candidates at that moment, from a log in the order of time.

The log goes through the same code that serves: live figures are read before an impression is
counted, and impressions of the same moment don't see each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.likeness.cosine import cosines
from app.ranker.features import Floats, Known, count_matches, features
from app.signals.counters import HalfLives
from app.signals.gate import GateLimits
from app.signals.live import LiveFigures, ShownStory, SignalOptions
from training.metrics import Flags

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All stories by index. vectors: [stories, width]; None without a sentence encoder."""

    ids: Sequence[str]
    categories: Sequence[str | None]
    vectors: Vectors | None


@dataclass(frozen=True, slots=True)
class Moment:
    """One impression. id: its `row_key`. features: [candidates, features], without tower and
    text. fresh: the same with no live figures at all. shown: impressions of each candidate so
    far."""

    id: str
    time: datetime
    features: Floats
    fresh: Floats
    clicked: Flags
    shown: Floats


@dataclass(frozen=True, slots=True)
class LogRow:
    """One impression of the log; stories are indices."""

    id: str
    user: str
    time: datetime
    history: list[int]
    liked: list[int]
    disliked: list[int]
    candidates: list[int]
    clicked: list[bool] | None

    @property
    def seconds(self) -> float:
        """Unix time; the log's times are taken for UTC."""
        return self.time.replace(tzinfo=UTC).timestamp()


@dataclass(slots=True)
class Replay:
    """Reads a log and yields its impressions' features, counting as it goes."""

    catalogue: Catalogue
    half_lives: HalfLives
    live: LiveFigures = field(init=False)
    nothing: LiveFigures = field(init=False)

    def __post_init__(self) -> None:
        stories = max(len(self.catalogue.ids), 1)
        trusted = GateLimits(key_limit=None)
        self.live = LiveFigures(SignalOptions(self.half_lives, stories, trusted))
        self.nothing = LiveFigures()

    def moments(self, log: pl.DataFrame) -> Iterator[Moment]:
        """The impressions with labels, in the order of time. log: as PreparedData.log returns."""
        for _, group in groupby(read_rows(log), key=lambda row: row.time):
            rows = list(group)
            for row in rows:
                if row.clicked is not None:
                    yield self.describe(row, row.clicked)
            for row in rows:
                self.count(row)

    def describe(self, row: LogRow, clicked: list[bool]) -> Moment:
        """One impression as it stands before it is counted."""
        ids = [self.catalogue.ids[index] for index in row.candidates]
        categories = [self.catalogue.categories[index] for index in row.candidates]
        figures = self.live.figures(ids, categories, row.seconds)
        known = Known(
            figures=figures,
            cosines=self.cosines(row),
            tower=None,
            category_count=count_matches(
                categories, [self.catalogue.categories[index] for index in row.history]
            ),
            history_length=len(row.history),
            times_passed=count_matches(ids, [self.catalogue.ids[i] for i in row.disliked]),
            times_clicked=count_matches(ids, [self.catalogue.ids[i] for i in row.liked]),
            hour=row.time.hour + row.time.minute / 60,
        )
        fresh = self.nothing.figures(ids, categories, row.seconds)
        return Moment(
            row_key(row.id, row.user, row.time),
            row.time,
            features(known),
            features(replace(known, figures=fresh)),
            np.array(clicked, np.bool_),
            figures.shown,
        )

    def cosines(self, row: LogRow) -> Floats | None:
        """The candidates' cosines with the history."""
        vectors = self.catalogue.vectors
        if vectors is None:
            return None
        return cosines(vectors[row.history], vectors[row.candidates])

    def count(self, row: LogRow) -> None:
        """Count what was shown and clicked."""
        stories = [
            ShownStory(self.catalogue.ids[index], self.catalogue.categories[index])
            for index in row.candidates
        ]
        self.live.shown(row.user, stories, row.seconds)
        if row.clicked is not None:
            clicks = [story for story, click in zip(stories, row.clicked, strict=True) if click]
            self.live.clicked(row.user, clicks, row.seconds)


def row_key(impression: str, user: str, time: datetime) -> str:
    """Tells an impression from all others. Its own id does not: each folder of MIND counts from
    1."""
    return f"{impression} {user} {time:%Y-%m-%dT%H:%M:%S}"


def read_rows(log: pl.DataFrame) -> Iterator[LogRow]:
    """The rows of a log, one by one."""
    names = list(LogRow.__dataclass_fields__)
    for values in log.rename({"impression": "id"}).select(names).iter_rows():
        yield LogRow(*values)
