"""Counters by key that decay with a half-life, are bounded in number, and can be merged.

Sums that decay exponentially are additive once they are brought to the same moment. So batches can
be added (`merge`) in any order.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLICKS, EXPOSURE, RECENT_CLICKS, RECENT_EXPOSURE, SHOWN, FIRST, LAST = range(7)
"""The columns of a row of counts."""
SLOW, RECENT = slice(0, 2), slice(2, 4)
COLUMNS = 7
FIRST_ROWS = 1024
"""How many rows there is room for at first."""


@dataclass(frozen=True, slots=True)
class HalfLives:
    """After how many seconds a count weighs half: of the long-term figures, and of the recent ones.
    None: never."""

    slow_s: float | None = None
    recent_s: float | None = 3600.0

    def kept(self, seconds: Floats) -> tuple[Floats, Floats]:
        """What is left after so many seconds, 0 to 1, of the slow and of the recent counts."""
        return _kept(seconds, self.slow_s), _kept(seconds, self.recent_s)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of counts by key: what events add, and what a snapshot holds.

    rows: [keys, COLUMNS]; the decaying counts of a row are those at the row's time LAST.
    """

    keys: list[str]
    rows: Floats

    def to_bytes(self) -> bytes:
        """As bytes, which `from_bytes` reads."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, keys=np.array(self.keys, dtype=np.str_), rows=self.rows)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Counts":
        """Raises ValueError for anything else than what `to_bytes` wrote."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                keys, rows = found["keys"].tolist(), found["rows"]
        except (OSError, KeyError, EOFError, ValueError) as error:
            raise ValueError(f"not a snapshot of counts: {error}") from None
        return cls.checked(keys, rows)

    @classmethod
    def checked(cls, keys: list[str], rows: Floats) -> "Counts":
        """Raises ValueError unless there is one row of finite counts for each key."""
        if rows.shape != (len(keys), COLUMNS) or not np.isfinite(rows).all():
            raise ValueError(f"counts: expected {len(keys)} rows of {COLUMNS} finite numbers")
        return cls(keys, rows.astype(np.float64))


class Counters:
    """Counts by key, at most `limit` of them; the least recently shown leave."""

    def __init__(self, limit: int, half_lives: HalfLives) -> None:
        self.limit = limit
        self.half_lives = half_lives
        self._places: dict[str, int] = {}
        self._keys: list[str] = []  # by place; the places in use are the first ones
        self._rows = np.zeros((min(limit, FIRST_ROWS), COLUMNS))
        self._touched = np.zeros(len(self._rows), np.int64)  # rises with each time it is shown
        self._touches = 0

    def __len__(self) -> int:
        return len(self._keys)

    def merge(self, counts: Counts) -> None:
        """Add counts, whose keys must be distinct. What comes late weighs as little as it would if
        it had come in time."""
        for start in range(0, len(counts.keys), self.limit):
            some = slice(start, start + self.limit)
            self._merge(counts.keys[some], counts.rows[some])

    def _merge(self, keys: Sequence[str], added: Floats) -> None:
        places, is_new = self._find_or_make(keys)
        own = self._rows[places]
        own[is_new] = added[is_new]
        own[is_new, : SHOWN + 1] = 0
        last = np.maximum(own[:, LAST], added[:, LAST])
        self._decay(own, last)
        added = added.copy()
        self._decay(added, last)
        own[:, : SHOWN + 1] += added[:, : SHOWN + 1]
        own[:, FIRST] = np.minimum(own[:, FIRST], added[:, FIRST])
        self._rows[places] = own

    def read(self, keys: Sequence[str], now: float) -> Floats:
        """Rows [keys, COLUMNS] with counts as they have decayed until `now`; zeros for unknown
        keys, whose FIRST is `now`."""
        places = self._find(keys)
        known = places >= 0
        rows = np.zeros((len(keys), COLUMNS))
        rows[:, FIRST] = rows[:, LAST] = now
        if known.any():
            found = self._rows[places[known]]
            self._decay(found, np.maximum(found[:, LAST], now))
            rows[known] = found
        return rows

    def snapshot(self) -> Counts:
        """All counts, the least recently shown first. `merge` into an empty one restores them."""
        places = np.argsort(self._touched[: len(self)])
        return Counts([self._keys[place] for place in places.tolist()], self._rows[places])

    def _decay(self, rows: Floats, until: Floats) -> None:
        """Bring rows [n, COLUMNS] to a later moment [n], in place."""
        slow, recent = self.half_lives.kept(until - rows[:, LAST])
        rows[:, SLOW] *= slow[:, None]
        rows[:, RECENT] *= recent[:, None]
        rows[:, LAST] = until

    def _find(self, keys: Sequence[str]) -> Ints:
        """The places of keys, -1 for unknown ones."""
        return np.fromiter(map(self._places.get, keys, repeat(-1)), np.int64, len(keys))

    def _find_or_make(self, keys: Sequence[str]) -> tuple[Ints, NDArray[np.bool_]]:
        """The places of keys, at most `limit`, and which of them are new. All become the most
        recently shown."""
        places = self._find(keys)
        is_new = places < 0
        now = self._touches + np.arange(len(keys))
        self._touches += len(keys)
        self._touched[places[~is_new]] = now[~is_new]
        new = [keys[number] for number in np.flatnonzero(is_new).tolist()]
        if new:
            places[is_new] = self._make(new)
            self._touched[places] = now
        return places, is_new

    def _make(self, keys: Sequence[str]) -> Ints:
        """Places for new keys: free ones, then those of the least recently shown."""
        used = len(self)
        end = min(self.limit, used + len(keys))
        self._make_room(end)
        gone = used + len(keys) - end
        oldest = np.argpartition(self._touched[:used], gone - 1)[:gone].tolist() if gone else []
        for place in oldest:
            del self._places[self._keys[place]]
        places = [*range(used, end), *oldest]
        self._keys += [""] * (end - used)
        for key, place in zip(keys, places, strict=True):
            self._places[key] = place
            self._keys[place] = key
        return np.array(places, np.int64)

    def _make_room(self, count: int) -> None:
        have = len(self._rows)
        if count > have:
            room = min(self.limit, max(2 * have, count)) - have
            self._rows = np.concatenate([self._rows, np.zeros((room, COLUMNS))])
            self._touched = np.concatenate([self._touched, np.zeros(room, np.int64)])


def _kept(seconds: Floats, half_life: float | None) -> Floats:
    return np.ones_like(seconds) if half_life is None else np.exp2(-seconds / half_life)
