"""Which model a reader gets."""

from collections import Counter

import pytest

from app.models.registry import assign

READERS = [f"reader-{number}" for number in range(20_000)]


@pytest.mark.parametrize(
    "weights", [{"base": 10, "news": 90}, {"a": 1, "b": 1, "c": 2}, {"only": 0.001}]
)
def test_shares_follow_the_weights(weights: dict[str, float]) -> None:
    found = Counter(assign("default", weights, reader) for reader in READERS)
    for model, weight in weights.items():
        expected = weight / sum(weights.values())
        assert found[model] / len(READERS) == pytest.approx(expected, abs=0.012)


def test_more_weight_moves_readers_to_it_and_none_elsewhere() -> None:
    before = [assign("x", {"a": 1, "b": 1, "c": 1}, reader) for reader in READERS]
    after = [assign("x", {"a": 1, "b": 1, "c": 2}, reader) for reader in READERS]
    moved = [(b, a) for b, a in zip(before, after, strict=True) if a != b]
    assert moved
    assert all(a == "c" for _, a in moved)


def test_two_experiments_split_independently() -> None:
    weights = {"a": 1.0, "b": 1.0}
    both = Counter((assign("x", weights, r), assign("y", weights, r)) for r in READERS)
    assert all(abs(count / len(READERS) - 0.25) < 0.015 for count in both.values())
