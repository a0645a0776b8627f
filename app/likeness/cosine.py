"""Cosines between candidates and the stories of a reader's history."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

BEST, LATEST = 5, 5
COSINES = 4
"""How many numbers `cosines` gives for each candidate."""


def cosines(history: Vectors, candidates: Vectors) -> NDArray[np.float64]:
    """[candidates, 4]: the cosine's mean and maximum over the history, the mean of its five highest
    and that of the five latest; zeros without a history.

    history: [stories, width], the oldest first; candidates: [candidates, width]; of unit length.
    """
    if not len(history):
        return np.zeros((len(candidates), COSINES))
    each = candidates @ history.T
    best = min(BEST, len(history))
    highest = np.partition(each, len(history) - best, axis=1)[:, -best:]
    return np.stack(
        [each.mean(1), each.max(1), highest.mean(1), each[:, -LATEST:].mean(1)], axis=1
    ).astype(np.float64)
