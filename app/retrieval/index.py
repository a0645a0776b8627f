"""Nearest neighbours among vectors, by exact search."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

BLOCK = 4096
"""How many vectors lie in one array, so that growing copies none."""
FEW = 16
"""A block with less than one in so many rows allowed is multiplied without the others."""


class Index(Protocol):
    """Vectors of unit length by the rows of a table, which are small numbers from 0 on. One thread
    may change it while others search; what changes meanwhile may be found or not."""

    def put(self, rows: Rows, vectors: Vectors) -> None:
        """Set or replace the vectors [rows, width] of rows, each named once."""

    def nearest(self, query: Vectors, allowed: Flags, count: int) -> Rows:
        """The `count` rows with the highest product with a query [width], the best first. allowed:
        [rows], whether a row may be found; False for all that have no vector."""


class ExactIndex:
    """Compares the queries with all vectors. Takes 4 bytes a number."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._blocks: list[Vectors] = []

    def put(self, rows: Rows, vectors: Vectors) -> None:
        while len(rows) and rows.max() >= len(self._blocks) * BLOCK:
            self._blocks.append(np.zeros((BLOCK, self._width), np.float32))
        for number in np.unique(rows // BLOCK).tolist():
            inside = rows // BLOCK == number
            self._blocks[number][rows[inside] % BLOCK] = vectors[inside]

    def get(self, rows: Rows) -> Vectors:
        """The vectors [rows, width] of rows that have one."""
        found = np.empty((len(rows), self._width), np.float32)
        for number, block in enumerate(self._blocks):
            inside = rows // BLOCK == number
            found[inside] = block[rows[inside] % BLOCK]
        return found

    def nearest(self, query: Vectors, allowed: Flags, count: int) -> Rows:
        scores = np.full(len(allowed), -np.inf, np.float32)
        for number, block in enumerate(list(self._blocks)):
            own = slice(number * BLOCK, (number + 1) * BLOCK)
            some = allowed[own]
            chosen = np.count_nonzero(some)
            if chosen * FEW < len(some):
                scores[own][some] = block[: len(some)][some] @ query
            else:
                scores[own] = np.where(some, block[: len(some)] @ query, -np.inf)
        return highest(scores, count)


def highest(scores: NDArray[np.floating], count: int) -> Rows:
    """The places of the `count` highest scores, the best first; those of -inf are left out."""
    places = np.flatnonzero(scores > -np.inf)
    if len(places) > count:
        places = places[np.argpartition(scores[places], len(places) - count)[-count:]]
    return places[np.argsort(-scores[places], kind="stable")]
