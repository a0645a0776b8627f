"""Vectors by content, so that a story is embedded once; half precision, bounded in number."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


class VectorCache:
    """The vectors of the most recently used texts. May be used by several threads."""

    def __init__(self, embed: Embed, limit: int = 100_000) -> None:
        """embed: texts → vectors [texts, width]. limit: vectors kept, of two bytes a number."""
        self._embed = embed
        self._limit = limit
        self._vectors: OrderedDict[bytes, NDArray[np.float16]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The texts' vectors [texts, width]; those that are not known are computed first."""
        keys = [content_key(text) for text in texts]
        found = self.known(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            computed = self._embed(list(missing.values())).astype(np.float16)
            made = dict(zip(missing, computed, strict=True))
            self.put(made)
            found |= made
        if not keys:
            return np.zeros((0, 0), np.float32)
        return np.stack([found[key] for key in keys]).astype(np.float32)

    def known(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float16]]:
        """The vectors of those keys that are known."""
        found = {}
        with self._lock:
            for key in keys:
                vector = self._vectors.get(key)
                if vector is not None:
                    self._vectors.move_to_end(key)
                    found[key] = vector
        return found

    def put(self, vectors: dict[bytes, NDArray[np.float16]]) -> None:
        """Take vectors that were computed elsewhere, such as those that a store has kept."""
        with self._lock:
            for key, vector in vectors.items():
                self._vectors[key] = vector
                self._vectors.move_to_end(key)
            while len(self._vectors) > self._limit:
                self._vectors.popitem(last=False)


def content_key(text: str) -> bytes:
    """16 bytes that tell a text from all others."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
