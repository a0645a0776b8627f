"""Probabilities → an ordered, truncated list."""

from collections.abc import Sequence


def order(probabilities: Sequence[float], top_k: int | None = None) -> list[int]:
    """Indices from the most to the least probable; ties keep their order."""
    ranked = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])
    return ranked[:top_k]
