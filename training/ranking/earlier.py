"""What was counted strictly earlier, for many events at once: the sums that app.signals keeps,
without a look-up for each event."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.ranker.features import Floats
from app.signals.counters import HalfLives
from training.metrics import Flags

Ints = NDArray[np.int64]

SUMS = 5
"""Columns: clicks, exposure, recent clicks, recent exposure, impressions, as in
app.signals.counters."""
SHOWN = 4
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Events:
    """Stories as they were shown, in the order of time; all arrays [events].

    moment: numbers that rise with the time and are equal for equal times. seconds: Unix time, whole
    as app.signals counts it. amounts: what each event adds to the sums, [SUMS] arrays. Decaying
    amounts are given as they would weigh at the moment to which the sums are decayed.
    """

    moment: Ints
    seconds: Floats
    amounts: list[Floats]


def make_events(
    moment: Ints, seconds: Floats, counted: tuple[Flags, Flags], start: float, lives: HalfLives
) -> Events:
    """counted: which events count as impressions, and which as clicks. start: the moment in Unix
    seconds to which the sums are decayed."""
    shown, clicked = (flags.astype(np.float64) for flags in counted)
    slow, recent = lives.kept(start - seconds)  # above 1, since these events are later
    amounts = [clicked * slow, shown * slow, clicked * recent, shown * recent, shown]
    return Events(moment, seconds, amounts)


class EarlierSums:
    """Sums by key, decayed to one moment, to which events are added."""

    def __init__(self, keys: int, sums: int = SUMS) -> None:
        """sums: how many of the SUMS are kept, the first."""
        self.rows = np.zeros((sums, keys))
        self.first = np.full(keys, np.inf)

    def decay(self, slow: float, recent: float) -> None:
        """Bring the sums to a later moment. slow, recent: what is left of them, 0 to 1."""
        self.rows[:2] *= slow
        self.rows[2:SHOWN] *= recent

    def before(self, keys: Ints, events: Events, wanted: Flags) -> tuple[Floats, Floats]:
        """For each wanted event, the sums of its key over all strictly earlier events, [sums,
        wanted], and when the key first occurred before, [wanted], inf where it did not."""
        sums, size = self.rows.shape
        order = np.argsort(keys.astype(np.min_scalar_type(size)), kind="stable")
        ordered, moment = keys[order], events.moment[order]
        is_first = starts(ordered)
        group = last_set(is_first)
        run = last_set(is_first | starts(moment))  # the first event of the key at this moment
        chosen = wanted[order]
        group, run, key = group[chosen], run[chosen], ordered[chosen]
        found = np.empty((sums, len(key)))
        for row, amounts in enumerate(events.amounts[:sums]):
            total = np.concatenate(([0.0], np.cumsum(amounts[order])))
            found[row] = self.rows[row, key] + (total[run] - total[group])
        own = np.where(run > group, events.seconds[order][group], np.inf)
        first = np.minimum(self.first[key], own)
        back = np.argsort(order[chosen])
        return found[:, back], first[back]

    def add(self, keys: Ints, events: Events) -> None:
        """Count events."""
        sums, size = self.rows.shape
        for row, amounts in enumerate(events.amounts[:sums]):
            self.rows[row] += np.bincount(keys, amounts, size)
        new = np.flatnonzero(np.isinf(self.first[keys]))[::-1]  # the earliest is written last
        self.first[keys[new]] = events.seconds[new]


class ReaderGate:
    """Which events count: those of a reader and a story at most once an hour, as in
    app.signals.gate, but without ever forgetting one early."""

    def __init__(self, window_ms: int = HOUR_MS) -> None:
        self.window_ms = window_ms
        self._pairs = np.zeros(0, np.int64)
        self._times = np.zeros(0, np.int64)

    def count(self, pairs: Ints, times: Ints) -> Flags:
        """Which of the events count, [events]. pairs: a number for each pair of reader and story.
        times: in milliseconds, in order, no earlier than any before."""
        if not len(pairs):
            return np.zeros(0, np.bool_)
        known = len(self._pairs)
        pairs, times = np.concatenate([self._pairs, pairs]), np.concatenate([self._times, times])
        order = np.argsort(pairs, kind="stable")
        ordered, at = pairs[order], times[order]
        far = np.diff(at, prepend=at[0]) >= self.window_ms
        counted = self._follow(starts(ordered) | far, at)
        kept = np.flatnonzero(counted)
        last = np.append(ordered[kept][1:] != ordered[kept][:-1], True)
        kept = kept[last & (at[kept] > times[-1] - self.window_ms)]
        self._pairs, self._times = ordered[kept], at[kept]
        flags = np.empty(len(order), np.bool_)
        flags[order] = counted
        return flags[known:]

    def _follow(self, sure: Flags, at: Ints) -> Flags:
        """sure: events that count whatever comes before; each begins a run, which ends at the next.
        Within a run, the next event counts that is a window later than the last that did."""
        counted = sure.copy()
        begins = np.flatnonzero(sure)
        ends = np.append(begins[1:], len(sure))
        run = np.flatnonzero(ends - begins > 1)
        number = np.cumsum(sure) - 1
        earliest, width = at.min(), int(at.max() - at.min()) + self.window_ms + 1
        line = number * width + (at - earliest)  # rises over all runs
        place = begins[run]
        while len(run):
            place = np.searchsorted(line, line[place] + self.window_ms)
            inside = place < ends[run]
            run, place = run[inside], place[inside]
            counted[place] = True
        return counted


def starts(values: Ints) -> Flags:
    """Which values differ from the one before; the first does."""
    return np.append(True, values[1:] != values[:-1]) if len(values) else np.zeros(0, np.bool_)


def last_set(flags: Flags) -> Ints:
    """For each place, the latest place so far whose flag is set; the first must be."""
    places = np.where(flags, np.arange(len(flags)), 0)
    return np.maximum.accumulate(places)
