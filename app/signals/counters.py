"""Counters by key that decay with a half-life, are bounded in number, and can be merged.

Sums that decay exponentially are additive once they are brought to the same moment. So instances
can exchange what each of them has counted (`take_changes`, `merge`), in any order.
"""

import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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
    """Rows of counts by key: what a snapshot holds, and what instances exchange.

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
        self._places: OrderedDict[str, int] = OrderedDict()  # the least recently shown first
        self._rows = np.zeros((min(limit, FIRST_ROWS), COLUMNS))

    def __len__(self) -> int:
        return len(self._places)

    def add(
        self, keys: Sequence[str], clicks: Floats, exposure: Floats, shown: Floats, at: float
    ) -> None:
        """Count, for distinct keys, at a moment in Unix seconds. Events may come late: they then
        weigh as little as they would if they had come in time. clicks, exposure, shown: [keys]."""
        rows = np.zeros((len(keys), COLUMNS))
        rows[:, CLICKS] = rows[:, RECENT_CLICKS] = clicks
        rows[:, EXPOSURE] = rows[:, RECENT_EXPOSURE] = exposure
        rows[:, SHOWN] = shown
        rows[:, FIRST] = rows[:, LAST] = at
        self.merge(Counts(list(keys), rows))

    def merge(self, counts: Counts) -> None:
        """Add what was counted elsewhere. Its keys must be distinct."""
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
        places = np.fromiter((self._places.get(key, -1) for key in keys), np.int64, len(keys))
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
        places = np.fromiter(self._places.values(), np.int64, len(self._places))
        return Counts(list(self._places), self._rows[places])

    def clear(self) -> None:
        """Forget everything."""
        self._places.clear()

    def _decay(self, rows: Floats, until: Floats) -> None:
        """Bring rows [n, COLUMNS] to a later moment [n], in place."""
        slow, recent = self.half_lives.kept(until - rows[:, LAST])
        rows[:, SLOW] *= slow[:, None]
        rows[:, RECENT] *= recent[:, None]
        rows[:, LAST] = until

    def _find_or_make(self, keys: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The places of keys, and which of them are new. All become the most recently shown."""
        is_new = np.zeros(len(keys), np.bool_)
        for number, key in enumerate(keys):
            if key in self._places:
                self._places.move_to_end(key)
            else:
                is_new[number] = True
                self._places[key] = self._free_place()
        places = np.fromiter((self._places[key] for key in keys), np.int64, len(keys))
        return places, is_new

    def _free_place(self) -> int:
        if len(self._places) >= self.limit:
            return self._places.popitem(last=False)[1]
        place = len(self._places)
        if place == len(self._rows):
            room = min(self.limit, 2 * place)
            self._rows = np.concatenate([self._rows, np.zeros((room - place, COLUMNS))])
        return place


def _kept(seconds: Floats, half_life: float | None) -> Floats:
    return np.ones_like(seconds) if half_life is None else np.exp2(-seconds / half_life)
