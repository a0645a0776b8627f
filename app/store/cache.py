"""A cache whose values can be used after they are outdated, while the store is away."""

import time
from typing import Generic, TypeVar

from cachetools import LRUCache

Value = TypeVar("Value")

CACHED = 100_000
"""How many values a cache holds."""


class Cache(Generic[Value]):
    """The values read last, with the times when they were read."""

    def __init__(self, fresh_s: float) -> None:
        self.fresh_s = fresh_s
        self._values: LRUCache[object, tuple[Value, float]] = LRUCache(CACHED)

    def fresh(self, key: object) -> bool:
        found = self._values.get(key)
        return found is not None and time.monotonic() - found[1] < self.fresh_s

    def get(self, key: object) -> Value | None:
        """The value, however old; None if there is none."""
        found = self._values.get(key)
        return None if found is None else found[0]

    def put(self, key: object, value: Value) -> None:
        self._values[key] = value, time.monotonic()

    def drop(self, key: object) -> None:
        self._values.pop(key, None)

    def outdate(self, key: object) -> None:
        """Have the value read again, unless the store is away then."""
        if (value := self.get(key)) is not None:
            self._values[key] = value, -self.fresh_s
