"""The stories that an instance can recommend, in memory: a table with an index of their vectors."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.likeness.cache import Vector
from app.retrieval.index import Flags, Index, Rows, Vectors
from app.store.listing import Listed
from app.store.records import StoredStory

Floats = NDArray[np.float64]

FIRST_ROWS = 1024
"""How many rows there is room for at first."""
NO_STORY = -np.inf
"""When a row without a story was sent or shown last."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which stories may be recommended.

    now: in Unix seconds; what is published later may not. exclude: ids. published_after: in Unix
    seconds; stories without a time are left out then. categories: None for all.
    """

    now: float
    exclude: Collection[str] = ()
    published_after: float | None = None
    categories: Collection[str] | None = None


class Catalogue:
    """At most `limit` stories; those that were sent or shown last stay. One thread changes it,
    others may read."""

    def __init__(self, limit: int, make_index: Callable[[int], Index]) -> None:
        """make_index: gets the width of the vectors, once that is known."""
        self.limit = limit
        self._make_index = make_index
        self._index: Index | None = None
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._erased: dict[str, float] = {}
        self._stories: list[StoredStory | None] = []
        self._updated = np.zeros(0)
        self._published = np.zeros(0)  # NaN where it is not known
        self._categories = np.zeros(0, np.int64)  # hashes
        self._embedded = np.zeros(0, np.bool_)
        self._make_room(FIRST_ROWS)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def embedded(self) -> int:
        """How many stories have their vectors."""
        return int(np.count_nonzero(self._embedded))

    # Called by the thread that follows the store

    def put(self, found: Iterable[Listed], read_at: float) -> None:
        """Add stories, or replace those with the same ids. A story keeps its vector as long as it
        keeps its title. read_at: when reading them began, by the monotonic clock; those that were
        erased since are left out."""
        with self._lock:
            self._erased = {name: at for name, at in self._erased.items() if at >= read_at}
            for one in found:
                if one.story.id not in self._erased:
                    self._put(one)
            if (surplus := len(self._rows) - self.limit) > 0:
                used = np.where(self._updated > NO_STORY, self._updated, np.inf)
                for row in np.argpartition(used, surplus)[:surplus].tolist():
                    self._remove(row)

    def keep_only(self, moments: Mapping[str, float]) -> list[str]:
        """Drop the stories that are not among these, which the store has, by id with the moments
        when they were last sent or shown. Returns the ids of those that are to be read: new ones,
        and those with another moment."""
        with self._lock:
            for name in self._rows.keys() - moments.keys():
                self._remove(self._rows[name])
            own = {name: float(self._updated[row]) for name, row in self._rows.items()}
        return [name for name, moment in moments.items() if own.get(name) != moment]

    def without_vectors(self) -> Rows:
        """The rows of stories that have none."""
        with self._lock:
            return np.flatnonzero(~self._embedded & (self._updated > NO_STORY))

    def titles(self, rows: Sequence[int]) -> dict[int, str]:
        """The titles of those rows that hold a story without a vector, by row."""
        with self._lock:
            found = {row: self._stories[row] for row in rows if not self._embedded[row]}
        return {row: story.title for row, story in found.items() if story is not None}

    def embed(self, titles: Mapping[int, str], vectors: Mapping[str, Vector]) -> int:
        """Set the vectors of rows that hold stories with these titles; returns how many. vectors:
        by title."""
        rows = [row for row, title in titles.items() if title in vectors]
        if not rows:
            return 0
        found = np.stack([vectors[titles[row]] for row in rows]).astype(np.float32)
        if self._index is None:
            self._index = self._make_index(found.shape[1])
        self._index.put(np.array(rows, np.int64), found)
        with self._lock:
            for row in rows:  # unless the story was erased meanwhile
                story = self._stories[row]
                self._embedded[row] = story is not None and story.title == titles[row]
        return len(rows)

    # Called by requests

    def erase(self, story: str) -> None:
        """Forget a story at once, which is no longer in the store."""
        with self._lock:
            self._erased[story] = time.monotonic()
            if story in self._rows:
                self._remove(self._rows[story])

    def allowed(self, filters: Filters) -> Flags:
        """Which rows hold a story that may be recommended, [rows]."""
        with self._lock:
            found = (self._updated > NO_STORY) & ~(self._published > filters.now)
            if filters.published_after is not None:
                found &= self._published >= filters.published_after
            if filters.categories is not None:
                wanted = np.array([hash(name) for name in filters.categories], np.int64)
                found &= np.isin(self._categories, wanted)
            found[[self._rows[one] for one in filters.exclude if one in self._rows]] = False
        return np.asarray(found, np.bool_)

    def nearest(self, query: Vectors, allowed: Flags, count: int) -> Rows:
        """As Index.nearest; rows without a vector are left out."""
        with_vector = allowed & self._embedded[: len(allowed)]
        if self._index is None or not with_vector.any():
            return np.zeros(0, np.int64)
        return self._index.nearest(query, with_vector, count)

    def newness(self) -> Floats:
        """When each row's story was published, or if that is not known, last sent or shown: in Unix
        seconds, [rows]."""
        with self._lock:
            return np.where(np.isnan(self._published), self._updated, self._published)

    def ids(self) -> list[str]:
        """The id of each row's story; "" where there is none."""
        with self._lock:
            return ["" if story is None else story.id for story in self._stories]

    def stories(self, rows: Iterable[int]) -> list[StoredStory | None]:
        """What is in these rows now."""
        with self._lock:
            return [self._stories[row] for row in rows]

    # Inside, with the lock held

    def _put(self, one: Listed) -> None:
        story, row = one.story, self._rows.get(one.story.id)
        if row is None:
            if not self._free:
                self._make_room(2 * len(self._stories))
            row = self._rows[story.id] = self._free.pop()
        before = self._stories[row]
        if before is None or before.title != story.title:
            self._embedded[row] = False
        self._stories[row] = story
        self._updated[row] = one.updated
        self._published[row] = np.nan if story.published is None else story.published
        self._categories[row] = hash(story.category)

    def _remove(self, row: int) -> None:
        story = self._stories[row]
        assert story is not None
        del self._rows[story.id]
        self._stories[row] = None
        self._updated[row], self._embedded[row] = NO_STORY, False
        self._free.append(row)

    def _make_room(self, count: int) -> None:
        """In new arrays, since others may still read the old ones."""
        more = count - len(self._stories)
        self._free += range(count - 1, len(self._stories) - 1, -1)
        self._stories += [None] * more
        self._updated = np.concatenate([self._updated, np.full(more, NO_STORY)])
        self._published = np.concatenate([self._published, np.full(more, np.nan)])
        self._categories = np.concatenate([self._categories, np.zeros(more, np.int64)])
        self._embedded = np.concatenate([self._embedded, np.zeros(more, np.bool_)])
