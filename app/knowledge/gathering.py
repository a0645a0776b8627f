"""Gathering what is known of a request's readers and candidates."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from math import inf

import numpy as np
from numpy.typing import NDArray

from app.knowledge.ranking import Ranking
from app.knowledge.titles import MAX_INLINE, Found, TitleVectors
from app.likeness.cosine import cosines
from app.likeness.tower import ReaderEncoder
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
        self,
        ranking: Ranking,
        pairs: Sequence[Pair],
        at: float | None = None,
        queue: float = inf,
    ) -> list[Known]:
        """What is known of each pair, without the language model's score. at: the moment, in Unix
        seconds; now, if there is none. queue: as in TitleVectors.of. Raises EncoderError."""
        plain = await vectors_of(ranking.titles, pairs, queue)
        tuned = await vectors_of(ranking.tower_titles, pairs, queue)
        know = partial(self._know_all, ranking, pairs, plain, tuned, at)
        return know() if size(pairs) < MAX_INLINE else await asyncio.to_thread(know)

    def _know_all(
        self,
        ranking: Ranking,
        pairs: Sequence[Pair],
        plain: Found | None,
        tuned: Found | None,
        at: float | None,
    ) -> list[Known]:
        now = self._now() if at is None else at
        return [self._know(ranking, pair, plain, tuned, now) for pair in pairs]

    def _know(
        self, ranking: Ranking, pair: Pair, plain: Found | None, tuned: Found | None, now: float
    ) -> Known:
        reader, stories = pair
        ids = [story.id for story in stories]
        categories = [story.category for story in stories]
        history = history_of(reader)
        time = datetime.fromtimestamp(now, UTC)
        return Known(
            figures=self._live.figures(ids, categories, now),
            cosines=likeness(plain, history, stories, cosines),
            tower=likeness(tuned, history, stories, partial(tower_scores, ranking.tower)),
            category_count=count_matches(categories, [story.category for story in history]),
            history_length=len(history),
            times_passed=count_matches(ids, reader.passed),
            times_clicked=count_matches(ids, reader.clicked),
            hour=time.hour + time.minute / 60,
        )


async def vectors_of(
    titles: TitleVectors | None, pairs: Sequence[Pair], queue: float
) -> Found | None:
    """Of all titles of the pairs, or of those that are known."""
    if titles is None:
        return None
    return await titles.of(
        [
            story.title
            for reader, stories in pairs
            for part in (history_of(reader), stories)
            for story in part
        ],
        queue,
    )


def likeness(
    found: Found | None,
    history: Sequence[Story],
    stories: Sequence[Story],
    compare: Callable[[Vectors, Vectors], NDArray[np.float64]],
) -> NDArray[np.float64] | None:
    """What `compare` makes of the vectors of history and stories, [stories, …]. NaN for a story
    whose title has no vector; None if that is so of all stories or of the whole history."""
    if found is None:
        return None
    clicked = [story for story in history if story.title in found]
    known = [story.title in found for story in stories]
    if not any(known) or (history and not clicked):
        return None
    values = compare(
        rows_of(found, clicked), rows_of(found, [one for one in stories if one.title in found])
    )
    whole = np.full((len(stories), *values.shape[1:]), np.nan)
    whole[known] = values
    return whole


def tower_scores(
    tower: ReaderEncoder | None, history: Vectors, stories: Vectors
) -> NDArray[np.float64]:
    assert tower is not None, "a ranking with the tower's vectors has the tower"
    return tower.scores(tower.reader(history), stories)


def rows_of(found: Found, stories: Sequence[Story]) -> Vectors:
    """[stories, width]"""
    if not stories:
        return np.zeros((0, 0), np.float32)
    rows = np.concatenate([found[story.title] for story in stories])  # faster than np.stack
    return rows.reshape(len(stories), -1).astype(np.float32)


def size(pairs: Sequence[Pair]) -> int:
    """How many titles there are."""
    return sum(len(history_of(reader)) + len(stories) for reader, stories in pairs)


def history_of(reader: Reader) -> Sequence[Story]:
    return reader.history[-HISTORY:]
