"""Which events count: a reader at most once an hour for a story, and a key only so often.

What a reader can do: add at most one impression and one click an hour to a story's counts. So
within H hours at most H + 1 of each, and with a half-life of h hours never more than
1 / (1 - 2^(-1/h)) in the decayed counts.

What an API key can do, which may invent readers: add at most `key_limit` impressions an hour to a
story, and as many clicks, since a click counts only together with an impression.
"""

import math
from array import array
from dataclasses import dataclass
from enum import Enum

HOUR_S = 3600.0
NEVER = -math.inf


class Counted(Enum):
    """What of an event is to be counted."""

    NOTHING = 0
    SHOWN = 1
    CLICK = 2
    SHOWN_AND_CLICK = 3


@dataclass(frozen=True, slots=True)
class GateLimits:
    """window_s: how long a reader counts once for a story. key_limit: impressions of a story that
    one key can add within a window; None for no limit. memory: how many pairs of reader and story
    are remembered (about 24 bytes each); if more are active within a window, some may count
    again early."""

    window_s: float = HOUR_S
    key_limit: int | None = 10_000
    memory: int = 1 << 20


class EventGate:
    """Remembers which reader has counted for which story, in a table of fixed size.

    Each pair has one possible place in it, by a hash that differs with each process (Python's own,
    with a random seed), so nobody can choose pairs that push out others. A pair that is pushed out
    may count again before its time: with a million places and 100,000 active pairs, 5 % do.
    """

    def __init__(self, limits: GateLimits | None = None) -> None:
        self.limits = limits or GateLimits()
        # Of the standard library: NumPy is slow with single numbers.
        self._pairs = array("q", bytes(8 * self.limits.memory))
        self._shown_at = array("d", [NEVER]) * self.limits.memory
        self._clicked_at = array("d", [NEVER]) * self.limits.memory
        self._window = 0
        self._by_key: dict[tuple[str, str], int] = {}

    def shown(self, reader: str, story: str, key: str, at: float) -> Counted:
        """Whether a reader's impression of a story counts. `at`: Unix seconds."""
        place = self._place(reader, story)
        if self._is_recent(self._shown_at[place], at) or not self._allow(key, story, at):
            return Counted.NOTHING
        self._shown_at[place] = at
        return Counted.SHOWN

    def clicked(self, reader: str, story: str, key: str, at: float) -> Counted:
        """Whether a reader's click on a story counts. A click without an impression in the window
        counts as both; one without an impression that could count does not count either."""
        place = self._place(reader, story)
        if self._is_recent(self._clicked_at[place], at):
            return Counted.NOTHING
        counted = Counted.CLICK
        if not self._is_recent(self._shown_at[place], at):
            if not self._allow(key, story, at):
                return Counted.NOTHING
            self._shown_at[place] = at
            counted = Counted.SHOWN_AND_CLICK
        self._clicked_at[place] = at
        return counted

    def _place(self, reader: str, story: str) -> int:
        pair = hash((reader, story))
        place = pair % self.limits.memory
        if self._pairs[place] != pair:
            self._pairs[place] = pair
            self._shown_at[place] = self._clicked_at[place] = NEVER
        return place

    def _is_recent(self, then: float, at: float) -> bool:
        return abs(at - then) < self.limits.window_s

    def _allow(self, key: str, story: str, at: float) -> bool:
        if self.limits.key_limit is None:
            return True
        window = int(at // self.limits.window_s)
        if window > self._window:  # late events count towards the window that is open
            self._window = window
            self._by_key.clear()
        used = self._by_key.get((key, story), 0)
        self._by_key[key, story] = used + 1
        return used < self.limits.key_limit
