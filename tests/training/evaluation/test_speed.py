"""Timing: how many samples a call gets, how many calls run at once, and that samples are new."""

import itertools
import time
from collections.abc import Sequence
from threading import Barrier

import pytest

from app.scoring.wording import Reader, Story
from training.data.prepared import Impression
from training.evaluation import speed


def reader(name: str, length: int) -> Impression:
    stories = [Story(f"{name} {number}") for number in range(length)]
    return Impression(
        id=name,
        user=name,
        reader=Reader(stories, stories[:1], []),
        candidates=[Story(f"{name} shown")],
        candidate_ids=["S"],
        clicked=[True],
    )


ROWS = [reader("a", 12), reader("b", 15)]


class Slow:
    """A model that takes a set time, and remembers what it was asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sizes: list[int] = []

    def __call__(self, samples: Sequence[Impression]) -> None:
        self.sizes.append(len(samples))
        time.sleep(self.seconds)


def test_batches() -> None:
    model = Slow(0.02)
    (row,) = speed.measure({"score": model}, ROWS, False, [4], seconds=0.2)
    assert set(model.sizes) == {1, 4}  # one by one only to begin with
    assert (row.task, row.mode, row.size) == ("score", "batch", 4)
    assert row.calls == model.sizes.count(4) - 1
    assert 20 <= row.latency_p50_ms <= row.latency_p95_ms
    assert 4 / 0.4 < row.samples_per_s <= 4 / 0.02


def test_concurrent_calls() -> None:
    """Calls that end only once eight are there: one after the other, they would never end."""
    eight = Barrier(8)
    model = Slow(0.05)

    def call(samples: Sequence[Impression]) -> None:
        if len(model.sizes):  # the first call is alone
            eight.wait(timeout=30)
        model(samples)

    (row,) = speed.measure({"score": call}, ROWS, True, [8], seconds=0)
    assert model.sizes == [1] * 25
    assert (row.mode, row.size, row.calls) == ("concurrent calls", 8, 24)
    assert 50 <= row.latency_p50_ms <= row.latency_p95_ms
    assert 8 / 2.0 < row.samples_per_s <= 8 / 0.05


def test_at_least_three_calls() -> None:
    model = Slow(0.0)
    (row,) = speed.measure({"score": model}, ROWS, False, [2], seconds=0.0)
    assert row.calls == 3


def test_an_error_in_a_thread_is_not_lost() -> None:
    def fail(samples: Sequence[Impression]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        speed.time_concurrent(fail, speed.fresh_samples(ROWS, 0), 2, 0.1)


def test_samples_are_new_and_as_long_as_real_ones() -> None:
    samples = list(itertools.islice(speed.fresh_samples(ROWS, 0), 200))
    histories = {tuple(story.title for story in sample.reader.history) for sample in samples}
    assert len(histories) == 200
    assert {len(sample.reader.history) for sample in samples} == {12, 15}
    assert {len(sample.reader.liked) for sample in samples} == {1}
    assert all(len(sample.candidates) == 1 for sample in samples)
    known = {story.title for row in ROWS for story in speed.all_stories(row)}
    assert {story.title for sample in samples for story in sample.reader.history} <= known
