"""Candidates for a reader: what is like their latest clicks, what is popular, and what is new."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest

import numpy as np

from app.errors import NotFound
from app.knowledge.encoders import Encoders
from app.knowledge.gathering import rows_of
from app.knowledge.shortlists import LAST_S
from app.knowledge.terms import Terms
from app.live.live import Live
from app.observability import metrics
from app.observability.tracing import span
from app.retrieval.catalogue import Catalogue, Filters
from app.retrieval.faiss_index import FaissIndex, check_faiss
from app.retrieval.following import Following
from app.retrieval.index import ExactIndex, Flags, Rows, Vectors, highest
from app.retrieval.popularity import Popular, Popularity
from app.retrieval.sources import Source
from app.scoring.wording import Story
from app.settings import Settings
from app.store.database import Database
from app.store.records import StoredStory

LATEST = 20
"""How many of a reader's latest clicks the neighbours are sought of: of their mean, which finds as
much on MIND as each one's neighbours do, for a fraction of the work (docs/ranker.md)."""
SIMILAR, POPULAR, NEW = 200, 200, 50
"""How many candidates of each kind there are at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A story, and why it is one."""

    story: StoredStory
    source: Source


class Retrieval:
    """The catalogue, what keeps it up, and the search in it."""

    def __init__(
        self, catalogue: Catalogue, database: Database, live: Live, encoders: Encoders
    ) -> None:
        self.catalogue = catalogue
        self.following = Following(database, catalogue, encoders.plain)
        self._popularity = Popularity(live, catalogue, database.now)
        self._encoders = encoders

    async def candidates(
        self, history: Sequence[Story], filters: Filters, terms: Terms
    ) -> list[Candidate]:
        """Candidates in no order of likelihood: the best of each kind come first, by turns. None is
        of the history, and no title is there twice.

        history: what the reader clicked, oldest first. Raises NotFound if there is no catalogue,
        and EncoderError.
        """
        if not self.catalogue.limit:
            raise NotFound("nothing is recommended by this service: catalogue_stories is 0")
        with span("retrieval"), metrics.RETRIEVAL_SECONDS.time():
            query = await self._taste(history[-LATEST:], terms)
            find = partial(self._find, history, query, filters)
            return await asyncio.to_thread(find)

    async def _taste(self, stories: Sequence[Story], terms: Terms) -> Vectors | None:
        """The mean of the stories' vectors, [width]; None if there are none, or if computing them
        would take too long."""
        titles = self._encoders.plain()
        if titles is None or not stories:
            return None
        end = terms.deadline - 2 * LAST_S if terms.may_degrade and terms.deadline else None
        try:
            async with asyncio.timeout_at(end):
                found = await titles.of([story.title for story in stories])
                return np.asarray(rows_of(found, stories).mean(0))
        except TimeoutError:
            metrics.TITLES.labels("late").inc()
            return None

    def _find(
        self, history: Sequence[Story], query: Vectors | None, filters: Filters
    ) -> list[Candidate]:
        allowed = self.catalogue.allowed(filters)
        popular = self._popularity.current()
        found = choose(self.catalogue, allowed, query, popular)
        return list(distinct(self.catalogue, found, history))


def make_retrieval(
    settings: Settings, database: Database, live: Live, encoders: Encoders
) -> Retrieval:
    """Raises StartupError if the index that the settings ask for is not installed."""
    if settings.retrieval_index == "faiss":
        check_faiss()
    make_index = FaissIndex if settings.retrieval_index == "faiss" else ExactIndex
    catalogue = Catalogue(settings.catalogue_stories, make_index)
    return Retrieval(catalogue, database, live, encoders)


def choose(
    catalogue: Catalogue, allowed: Flags, query: Vectors | None, popular: Popular
) -> dict[Source, Rows]:
    """The rows of each kind, the best first."""
    rows = min(len(allowed), len(popular.score))
    allowed, newness = allowed[:rows], catalogue.newness()[:rows]
    score, shown = popular.score[:rows], popular.shown[:rows]
    similar = np.zeros(0, np.int64)
    if query is not None:
        similar = catalogue.nearest(query, allowed, SIMILAR)
    return {
        "similar": similar,
        "popular": highest(np.where(allowed & shown, score, -np.inf), POPULAR),
        "new": highest(np.where(allowed & ~shown, newness, -np.inf), NEW),
    }


def distinct(
    catalogue: Catalogue, found: dict[Source, Rows], history: Iterable[Story]
) -> Iterator[Candidate]:
    """The stories of rows, by turns of each kind. Of those with one title the first counts."""
    titles = {story.title for story in history}
    turns = zip_longest(*([(source, row) for row in rows] for source, rows in found.items()))
    every = [one for one in chain.from_iterable(turns) if one is not None]
    stories = catalogue.stories(int(row) for _, row in every)
    for (source, _), story in zip(every, stories, strict=True):
        if story is not None and story.title not in titles:
            titles.add(story.title)
            yield Candidate(story, source)
