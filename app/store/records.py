"""What is written to the store, as it comes from requests and events."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

TITLE_ID_PREFIX = "title:"
STORY_BYTES = 250
"""What a story takes in memory besides its title, about."""
ID_BYTES = 60
"""The same for an id alone, besides its letters."""


@dataclass(frozen=True, slots=True)
class StoredStory:
    """A story. published: seconds since 1970, or None if it is not known."""

    id: str
    title: str
    category: str | None = None
    published: float | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a request carried. Unless the service remembers, only the ids of its stories are kept.

    shown: in the order shown. history: oldest first, or None if none was sent. named: the ids of
    stories that were sent by their ids alone; their texts are the store's and are not written back,
    since they may have changed there.
    """

    reader_id: str | None
    shown: Sequence[StoredStory]
    history: Sequence[StoredStory] | None
    named: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of /rank or /predict to be kept for feedback.

    indices: uint16 each, the stories' places in the request, in the order shown. probabilities:
    float32 each, in the same order. story_ids: in the same order; None if they are not known.
    remembered: what else is kept of the request.
    """

    id: str
    time: float
    model: str
    alias: str | None
    ranked: bool
    stories: int
    indices: bytes
    probabilities: bytes
    story_ids: Sequence[str] | None = None
    remembered: Remembered | None = None

    @property
    def size(self) -> int:
        """How many bytes of memory its stories take, about."""
        carried = self.remembered
        if carried is None:
            return sum(ID_BYTES + len(one) for one in self.story_ids or ())
        return sum(
            STORY_BYTES + len(one.title) for one in (*carried.shown, *(carried.history or ()))
        )


@dataclass(frozen=True, slots=True)
class ImpressionEvent:
    """Stories shown to a reader by a site, in the order shown."""

    id: str
    time: float
    reader_id: str | None
    stories: Sequence[str]


@dataclass(frozen=True, slots=True)
class ClickEvent:
    """A click. impression_id: of the impression or answer where the story was shown."""

    id: str
    time: float
    reader_id: str | None
    story: str
    impression_id: str | None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a reader did with the story at `index` of an answer's request. sender: the name of the
    API key that reports it."""

    answer_id: str
    index: int
    clicked: bool
    sender: str | None = None


class Outcome(NamedTuple):
    """Whether a story was clicked, and who reported it."""

    clicked: bool
    sender: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """How many impressions and clicks of a batch are new, and how many of all events were known by
    their ids."""

    impressions: int
    clicks: int
    duplicates: int

    @property
    def accepted(self) -> int:
        return self.impressions + self.clicks


def title_id(title: str) -> str:
    """The id of a story that has none, so that it is the same story wherever its title appears."""
    return TITLE_ID_PREFIX + blake2b(title.encode(), digest_size=12).hexdigest()


def to_json(value: Sequence[str] | Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class ReaderKey:
    """Hashes readers' ids, so that the store alone names nobody."""

    def __init__(self, key: bytes) -> None:
        self._key = blake2b(key, digest_size=32).digest()

    def hash(self, reader_id: str) -> bytes:
        """16 bytes, the same for the same reader and key."""
        return blake2b(reader_id.encode(), key=self._key, digest_size=16).digest()
