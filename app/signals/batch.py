"""Counting many events at once, at a small part of what one by one costs.

The figures become what `LiveFigures.shown` and `clicked` make of the same events, except that
positions weigh as they did before the batch.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

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
from app.signals.gate import Counted, EventGate
from app.signals.live import MAX_POSITION, SITE, Changes

Judge = Callable[[str, str, str, float], Counted]


@dataclass(frozen=True, slots=True)
class Event:
    """Stories that a reader was shown, or clicked, at a moment in Unix seconds.

    stories: their ids, each with its position from 0, or None if it has none. reader: for an
    unknown one, something that this impression and its clicks alone have.
    """

    reader: str
    stories: Sequence[tuple[str, int | None]]
    at: float
    clicked: bool = False


@dataclass(slots=True)
class Sums:
    """One entry for each story of an event that counts."""

    keys: list[str] = field(default_factory=list)
    clicks: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


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
    sums = judge(events, gate)
    if not sums.keys:
        return {}
    clicks, shown = np.array(sums.clicks), np.array(sums.shown)
    places, times = np.array(sums.places), np.array(sums.times)
    weighed = shown * np.where(places >= 0, weights[np.maximum(places, 0)], 1.0)

    def summed(keys: Sequence[str | None], exposure: Floats) -> Counts:
        return sum_rows(keys, np.stack([clicks, exposure, shown, times]), half_lives)

    at_places = [None if place < 0 else str(place) for place in sums.places]
    return {
        "stories": summed(sums.keys, weighed),
        "categories": summed([categories.get(key) or None for key in sums.keys], weighed),
        "positions": merged(summed([SITE] * len(times), shown), summed(at_places, shown)),
    }


def judge(events: Sequence[Event], gate: EventGate) -> Sums:
    """What of the events counts."""
    sums = Sums()
    for event in events:
        ask: Judge = gate.clicked if event.clicked else gate.shown
        for story, position in event.stories:
            what = ask(event.reader, story, "", event.at)
            if what is Counted.NOTHING:
                continue
            sums.keys.append(story)
            sums.clicks.append(float(what is not Counted.SHOWN))
            sums.shown.append(float(what is not Counted.CLICK))
            sums.places.append(-1 if position is None else min(position, MAX_POSITION))
            sums.times.append(event.at)
    return sums


def sum_rows(keys: Sequence[Hashable], values: Floats, half_lives: HalfLives) -> Counts:
    """Sum by key, with each value decayed until the last moment of all.

    keys: those that are None are left out. values: clicks, exposure, impressions and time of each
    key, [4, keys].
    """
    rows_of: dict[Hashable, int] = {}
    row = np.fromiter(
        (-1 if key is None else rows_of.setdefault(key, len(rows_of)) for key in keys),
        np.int64,
        len(keys),
    )
    clicks, exposure, shown, times = values[:, row >= 0]
    row, count = row[row >= 0], len(rows_of)
    rows = np.zeros((count, COLUMNS))
    if count:
        last = times.max()
        slow, recent = half_lives.kept(last - times)
        for column, value in (
            (CLICKS, clicks * slow),
            (EXPOSURE, exposure * slow),
            (RECENT_CLICKS, clicks * recent),
            (RECENT_EXPOSURE, exposure * recent),
            (SHOWN, shown),
        ):
            rows[:, column] = np.bincount(row, value, count)
        rows[:, FIRST] = last
        np.minimum.at(rows[:, FIRST], row, times)
        rows[:, LAST] = last
    return Counts([str(key) for key in rows_of], rows)


def merged(first: Counts, second: Counts) -> Counts:
    """Two that have no key in common."""
    return Counts(first.keys + second.keys, np.concatenate([first.rows, second.rows]))
