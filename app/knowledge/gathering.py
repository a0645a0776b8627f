"""Gathering what is known of a request's readers and candidates."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from app.knowledge.ranking import Ranking
from app.knowledge.titles import TitleVectors
from app.likeness.cosine import cosines
from app.live.live import Live
from app.ranker.features import Known, count_matches
from app.scoring.wording import Reader, Story

Vectors = NDArray[np.float32]
Pair = tuple[Reader, Sequence[Story]]
"""A reader and the stories to predict for them."""

HISTORY = 50
"""How many of a reader's latest stories count, as in training (`prepare --history`)."""


class Knowledge:
    """now: the store's clock, in Unix seconds."""

    def __init__(self, live: Live, now: Callable[[], float]) -> None:
        self._live = live
        self._now = now

    async def gather(
        self, ranking: Ranking, pairs: Sequence[Pair], at: float | None = None
    ) -> list[Known]:
        """What is known of each pair, without the language model's score. at: the moment, in Unix
        seconds; now, if there is none. Raises EncoderError."""
        plain = await vectors_of(ranking.titles, pairs)
        tuned = await vectors_of(ranking.tower_titles, pairs)
        now = self._now() if at is None else at
        return [
            self._know(ranking, pair, plain[number], tuned[number], now)
            for number, pair in enumerate(pairs)
        ]

    def _know(
        self,
        ranking: Ranking,
        pair: Pair,
        plain: tuple[Vectors, Vectors] | None,
        tuned: tuple[Vectors, Vectors] | None,
        now: float,
    ) -> Known:
        reader, stories = pair
        ids = [story.id for story in stories]
        categories = [story.category for story in stories]
        history = history_of(reader)
        time = datetime.fromtimestamp(now, UTC)
        tower = None
        if ranking.tower is not None and tuned is not None:
            tower = ranking.tower.scores(ranking.tower.reader(tuned[0]), tuned[1])
        return Known(
            figures=self._live.figures(ids, categories, now),
            cosines=None if plain is None else cosines(*plain),
            tower=tower,
            category_count=count_matches(categories, [story.category for story in history]),
            history_length=len(history),
            times_passed=count_matches(ids, reader.passed),
            times_clicked=count_matches(ids, reader.clicked),
            hour=time.hour + time.minute / 60,
        )


async def vectors_of(
    titles: TitleVectors | None, pairs: Sequence[Pair]
) -> list[tuple[Vectors, Vectors] | None]:
    """Of each pair's history [stories, width] and candidates [candidates, width]."""
    if titles is None:
        return [None] * len(pairs)
    parts = [part for reader, stories in pairs for part in (history_of(reader), stories)]
    rows = await titles.of([story.title for part in parts for story in part])
    split = np.split(rows, np.cumsum([len(part) for part in parts])[:-1])
    return list(zip(split[::2], split[1::2], strict=True))


def history_of(reader: Reader) -> Sequence[Story]:
    return reader.history[-HISTORY:]
