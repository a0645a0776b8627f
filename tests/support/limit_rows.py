"""Builds rows of loadtests.limit for tests."""

from loadtests.limit.speed import Row


def rate(subject: str, shape: str, stories_per_s: float, layout: str = "compact") -> Row:
    return Row(subject, shape, layout, 4, {"stories_per_s": stories_per_s, "calls": 9.0})
