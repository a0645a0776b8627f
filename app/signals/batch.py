"""Counting many events at once: thousands of them cost little more than one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

from app.signals.counters import (
    CLICKS,
    COLUMNS,
    EXPOSURE,
    FIRST,
    LAST,
    RECENT_CLICKS,
    RECENT_EXPOSURE,
    SHOWN,
    Counts,
    Floats,
    HalfLives,
)
from app.signals.gate import Asked, EventGate, Ints, Kind, hashes, mixed

SITE = "site"
MAX_POSITION = 200
"""Positions from this one on (counted from 0) count as one."""
POSITIONS = [*(str(position) for position in range(MAX_POSITION + 1)), SITE]
"""The keys of the counts by position."""

Changes = dict[str, Counts]
"""Counts by kind: what events add, and what a snapshot holds."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a reader did with stories at a moment in Unix seconds.

    reader: for an unknown one, something that this impression and its clicks alone have. places:
    the stories' positions from 0, -1 for none; None if none has one. key: the name of the API key
    that reported it. arrived: when that was; None: at the same moment.
    """

    reader: str | bytes
    stories: Sequence[str]
    at: float
    kind: Kind = Kind.SHOWN
    places: Sequence[int] | None = None
    key: str = ""
    arrived: float | None = None


@dataclass(frozen=True, slots=True)
class Items:
    """The stories of events, one after the other, each once in an event; arrays [items].

    names: the different stories, the one shown last at the end. story: each one's number among
    these. event: its event's number. place: its position, at most MAX_POSITION, -1 for none.
    """

    names: list[str]
    story: Ints
    event: Ints
    place: Ints


def sum_events(
    events: Sequence[Event],
    gate: EventGate,
    weights: Floats,
    categories: Mapping[str, str | None],
    half_lives: HalfLives,
) -> Changes:
    """What events add to the counts, for `LiveFigures.merge`.

    gate: decides which of them count, and remembers them. weights: of an impression at each
    position, [MAX_POSITION + 1]. categories: of stories.
    """
    if not events:
        return {}
    items = list_items(events)
    times = per_event((event.at for event in events), events)[items.event]
    shown, clicks = gate.judge(to_ask(events, items, times))
    counted = np.flatnonzero((shown != 0) | (clicks != 0))
    if not len(counted):
        return {}
    shown, clicks, times = shown[counted], clicks[counted], times[counted]
    story, place = items.story[counted], items.place[counted]
    weighed = shown * np.where(place >= 0, weights[np.maximum(place, 0)], 1.0)
    known, category_of = numbered(list(map(categories.get, items.names)))
    sums = Sums(clicks, shown, times, half_lives)
    site = np.full(len(counted), MAX_POSITION + 1)
    return {
        "stories": sums.by(story, items.names, weighed),
        "categories": sums.by(category_of[story], known, weighed),
        "positions": merged(sums.by(site, POSITIONS, shown), sums.by(place, POSITIONS, shown)),
    }


def list_items(events: Sequence[Event]) -> Items:
    """The stories of events."""
    sizes = np.fromiter((len(event.stories) for event in events), np.int64, len(events))
    count = int(sizes.sum())
    every = list(chain.from_iterable(event.stories for event in events))
    names = list(dict.fromkeys(reversed(every)))[::-1]
    numbers = dict(zip(names, range(len(names)), strict=True))
    story = np.fromiter(map(numbers.__getitem__, every), np.int64, count)
    event = np.repeat(np.arange(len(events)), sizes)
    places = (repeat(-1, len(one.stories)) if one.places is None else one.places for one in events)
    place = np.fromiter(chain.from_iterable(places), np.int64, count)
    _, once = np.unique(event * len(names) + story, return_index=True)
    once.sort()
    return Items(names, story[once], event[once], np.minimum(place[once], MAX_POSITION))


def to_ask(events: Sequence[Event], items: Items, times: Floats) -> Asked:
    """times: [items]."""
    count = len(events)
    stories = hashes(items.names, len(items.names))[items.story]
    readers = hashes((event.reader for event in events), count)[items.event]
    keys = hashes((event.key for event in events), count)[items.event]
    kinds = np.fromiter((event.kind for event in events), np.int64, count)[items.event]
    arrived = max(event.at if event.arrived is None else event.arrived for event in events)
    return Asked(mixed(readers, stories), mixed(keys, stories), kinds, times, arrived)


def per_event(values: Iterable[float], events: Sequence[Event]) -> Floats:
    return np.fromiter(values, np.float64, len(events))


def numbered(names: Sequence[str | None]) -> tuple[list[str], Ints]:
    """The different names, and each one's number among them, -1 for None and an empty one."""
    different = [name for name in dict.fromkeys(names) if name]
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(different)}
    numbers[None] = numbers[""] = -1
    return different, np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))


class Sums:
    """Sums of what counts, decayed until the last moment of all; arrays [items]."""

    def __init__(self, clicks: Floats, shown: Floats, times: Floats, half_lives: HalfLives) -> None:
        self.clicks, self.shown, self.times = clicks, shown, times
        self.last = float(times.max())
        self.slow, self.recent = half_lives.kept(self.last - times)

    def by(self, numbers: Ints, names: Sequence[str], exposure: Floats) -> Counts:
        """By number of name. numbers: -1 is left out. exposure: [items]."""
        rows = np.zeros((len(names) + 1, COLUMNS))  # the first is what is left out
        for column, value in (
            (CLICKS, self.clicks * self.slow),
            (EXPOSURE, exposure * self.slow),
            (RECENT_CLICKS, self.clicks * self.recent),
            (RECENT_EXPOSURE, exposure * self.recent),
            (SHOWN, self.shown),
        ):
            rows[:, column] = np.bincount(numbers + 1, value, len(names) + 1)
        rows[:, FIRST] = rows[:, LAST] = self.last
        np.minimum.at(rows[:, FIRST], numbers + 1, self.times)
        present = np.flatnonzero(np.bincount(numbers + 1, minlength=len(names) + 1)[1:])
        return Counts([names[number] for number in present.tolist()], rows[present + 1])


def merged(first: Counts, second: Counts) -> Counts:
    """Two that have no key in common."""
    return Counts(first.keys + second.keys, np.concatenate([first.rows, second.rows]))
