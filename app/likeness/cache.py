"""Vectors that were computed before, bounded in number."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float16]
Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept", NDArray[np.float16], NDArray[np.float32])


class VectorCache(Generic[Key, Kept]):
    """The vectors used most recently. May be used by several threads."""

    def __init__(self, limit: int = 100_000) -> None:
        """limit: vectors kept."""
        self._limit = limit
        self._vectors: OrderedDict[Key, Kept] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def known(self, keys: Iterable[Key]) -> dict[Key, Kept]:
        """The vectors of those keys that are known."""
        found = {}
        with self._lock:
            for key in keys:
                vector = self._vectors.get(key)
                if vector is not None:
                    self._vectors.move_to_end(key)
                    found[key] = vector
        return found

    def put(self, vectors: Mapping[Key, Kept]) -> None:
        with self._lock:
            for key, vector in vectors.items():
                self._vectors[key] = vector
                self._vectors.move_to_end(key)
            while len(self._vectors) > self._limit:
                self._vectors.popitem(last=False)


def content_key(text: str, maker: bytes = b"") -> bytes:
    """16 bytes that tell a text from all others. maker: at most 64 bytes, of what makes the vector,
    so that two encoders' vectors have different keys."""
    return hashlib.blake2b(text.encode(), digest_size=16, key=maker).digest()
