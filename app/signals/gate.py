"""Which events count: a reader at most once an hour for a story, and a key only so often.

What a reader can do: add at most one impression and one click an hour to a story's counts. So
within H hours at most H + 1 of each, and with a half-life of h hours never more than
1 / (1 - 2^(-1/h)) in the decayed counts.

What an API key can do, which may invent readers: add at most `key_limit` impressions an hour to a
story, and as many clicks, since a click counts only together with an impression.
"""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

HOUR_S = 3600.0
NEVER = -math.inf
KEY_MEMORY = 1 << 20
"""How many pairs of key and story have a count of their own, about."""
PRIMES = (11400714785074694791, 14029467366897019727, 2870177450012600261)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Hashes = NDArray[np.uint64]


class Kind(IntEnum):
    """What a reader did with stories. TAKEN_BACK: a click that is not one after all."""

    SHOWN = 0
    CLICKED = 1
    TAKEN_BACK = 2


@dataclass(frozen=True, slots=True)
class GateLimits:
    """window_s: how long a reader counts once for a story. key_limit: impressions of a story that
    one key can add within a window; None for no limit. memory: how many pairs of reader and story
    are remembered (24 bytes each); if more are active within a window, some may count again
    early."""

    window_s: float = HOUR_S
    key_limit: int | None = 10_000
    memory: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be judged, in the order of events; arrays [items].

    pairs: hashes of reader and story. budgets: hashes of API key and story. kinds: of Kind. at: in
    Unix seconds. arrived: when the last of them was reported, which says what counts towards the
    keys' limit.
    """

    pairs: Hashes
    budgets: Hashes
    kinds: Ints
    at: Floats
    arrived: float


class EventGate:
    """Remembers which reader has counted for which story, in a table of fixed size.

    Each pair has one possible place in it, by a hash that differs with each process (Python's own,
    with a random seed), so nobody can choose pairs that push out others. A pair that is pushed out
    may count again before its time: with a million places and 100,000 active pairs, 5 % do.

    Pairs of key and story are not pushed out, or a key could forget its limit by inventing stories:
    two that have the same place share a limit.
    """

    def __init__(self, limits: GateLimits | None = None) -> None:
        self.limits = limits or GateLimits()
        self._pairs = np.zeros(self.limits.memory, np.uint64)
        self._shown_at = np.full(self.limits.memory, NEVER)
        self._clicked_at = np.full(self.limits.memory, NEVER)
        self._window = 0
        self._used = np.zeros(0 if self.limits.key_limit is None else KEY_MEMORY, np.int64)

    def judge(self, asked: Asked) -> tuple[Floats, Floats]:
        """What counts, [items] each: impressions, 0 or 1, and clicks, -1 to 1.

        A click without an impression in the window counts as both; one without an impression that
        could count does not count either. A click that is taken back, with the time of the click,
        is subtracted if it has counted and is still remembered.
        """
        self._open_window(asked.arrived)
        places = (asked.pairs % np.uint64(self.limits.memory)).astype(np.int64)
        shown, clicks = np.zeros(len(places)), np.zeros(len(places))
        for turn in turns(places):
            shown[turn], clicks[turn] = self._judge(asked, turn, places[turn])
        return shown, clicks

    def _judge(self, asked: Asked, items: Ints, places: Ints) -> tuple[Flags, Ints]:
        """places: of the items, all different."""
        at, kinds, pairs = asked.at[items], asked.kinds[items], asked.pairs[items]
        known = self._pairs[places] == pairs
        shown_at = np.where(known, self._shown_at[places], NEVER)
        clicked_at = np.where(known, self._clicked_at[places], NEVER)
        was_shown = np.abs(at - shown_at) < self.limits.window_s
        new_click = (kinds == Kind.CLICKED) & ~(np.abs(at - clicked_at) < self.limits.window_s)
        back = (kinds == Kind.TAKEN_BACK) & (clicked_at == at)
        wants = ~was_shown & ((kinds == Kind.SHOWN) | new_click)
        shown = wants & self._allow(asked.budgets[items], wants)
        click = new_click & (was_shown | shown)
        self._pairs[places] = pairs
        self._shown_at[places] = np.where(shown, at, shown_at)
        self._clicked_at[places] = np.where(click, at, np.where(back, NEVER, clicked_at))
        return shown, click.astype(np.int64) - back

    def _open_window(self, arrived: float) -> None:
        window = int(arrived // self.limits.window_s)
        if window > self._window:  # what is late counts towards the window that is open
            self._window = window
            self._used.fill(0)

    def _allow(self, budgets: Hashes, wants: Flags) -> Flags:
        """Which of those that want to count may, by their keys' limits; the first may."""
        limit = self.limits.key_limit
        if limit is None:
            return wants
        places = (budgets[wants] % np.uint64(KEY_MEMORY)).astype(np.int64)
        free = self._used[places] + earlier(places) < limit
        np.add.at(self._used, places[free], 1)
        allowed = wants.copy()
        allowed[wants] = free
        return allowed


def turns(places: Ints) -> Iterable[Ints]:
    """Items in groups with no place twice: the first of each place, the second, and so on."""
    number = earlier(places)
    ordered = np.argsort(number, kind="stable")
    return np.split(ordered, np.cumsum(np.bincount(number))[:-1])


def earlier(places: Ints) -> Ints:
    """How many earlier items have the same place, for each."""
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    sizes = np.diff(starts, append=len(places))
    number = np.empty(len(places), np.int64)
    number[order] = np.arange(len(places)) - np.repeat(starts, sizes)
    return number


def hashes(values: Iterable[Hashable], count: int) -> Hashes:
    """Python's hashes of so many values."""
    return np.fromiter(map(hash, values), np.int64, count).view(np.uint64)


def mixed(first: Hashes, second: Hashes) -> Hashes:
    """A hash of both, as Python makes that of a pair (xxHash's rounds)."""
    one, two, start = (np.uint64(prime) for prime in PRIMES)
    found = np.full(first.shape, start)
    for part in (first, second):
        found = found + part * two
        found = (found << np.uint64(31)) | (found >> np.uint64(33))
        found = found * one
    return found
