"""Probabilities → an ordered, truncated list."""

from collections.abc import Sequence


def order(probabilities: Sequence[float]) -> list[int]:
    """Indices from the most to the least probable; ties keep their order."""
    return sorted(range(len(probabilities)), key=lambda index: -probabilities[index])
