"""Differences between two models, for one look and for many."""

from dataclasses import astuple, dataclass

import numpy as np
import pytest
from numpy.random import Generator

from app.feedback.differences import compare
from app.feedback.figures import MIN_ANSWERS, Difference
from app.feedback.intervals import Floats, Moments

LOOKS = 150
RUNS = 200
RATE = 0.04


def clicks(random: Generator, answers: int, rate: float) -> tuple[Floats, Floats]:
    """Clicks and stories of answers of readers who differ in how much they click."""
    shown = random.integers(5, 15, answers)
    own = random.beta(2, 2 / rate - 2, answers)
    return random.binomial(shown, own).astype(np.float64), shown.astype(np.float64)


def aucs(random: Generator, answers: int, rate: float) -> tuple[Floats, Floats]:
    return random.beta(1.4, 0.6, answers), np.ones(answers)


@dataclass(frozen=True, slots=True)
class Run:
    """Whether an interval missed the true difference at any look, and at which look the first
    anytime-valid one did not contain 0."""

    fixed_missed: bool
    anytime_missed: bool
    found_at: int | None
    last: Difference


def run(random: Generator, draw: object, lift: float = 0.0, ramp: bool = False) -> Run:
    """One experiment of LOOKS looks, 400 answers apart. ramp: one model begins with a twentieth of
    the readers."""
    assert callable(draw)
    one, other = Moments(), Moments()
    truth = RATE * lift
    looks = []
    for look in range(LOOKS):
        share = 0.05 if ramp and look < LOOKS // 3 else 0.5
        one.add(*draw(random, int(400 * share), RATE * (1 + lift)))
        other.add(*draw(random, int(400 * (1 - share)), RATE))
        found = compare(one, other)
        assert found
        looks.append(found)
    valid = [each.anytime for each in looks if each.anytime]
    shows = [look for look, each in enumerate(looks) if each.anytime and each.anytime.low > 0]
    return Run(
        any(not each.fixed.low <= truth <= each.fixed.high for each in looks),
        any(not each.low <= truth <= each.high for each in valid),
        min(shows, default=None),
        looks[-1],
    )


@pytest.mark.parametrize(
    ("draw", "ramp"), [(clicks, False), (clicks, True), (aucs, False)], ids=["", "ramp", "auc"]
)
def test_no_look_excludes_the_true_difference(draw: object, ramp: bool) -> None:
    """RUNS experiments of equal models, looked at LOOKS times each: with the fixed interval, a
    third of them and more show a difference."""
    random = np.random.default_rng(11)
    runs = [run(random, draw, ramp=ramp) for _ in range(RUNS)]
    assert np.mean([one.anytime_missed for one in runs]) <= 0.05
    assert np.mean([one.fixed_missed for one in runs]) > 0.25


def test_at_one_look_the_fixed_interval_holds() -> None:
    random = np.random.default_rng(12)
    missed = 0
    for _ in range(2000):
        one, other = Moments(), Moments()
        one.add(*clicks(random, 500, 0.05))
        other.add(*clicks(random, 800, 0.04))
        found = compare(one, other)
        assert found
        missed += not found.fixed.low <= 0.01 <= found.fixed.high
    assert missed / 2000 == pytest.approx(0.05, abs=0.015)


def test_a_real_difference_is_found() -> None:
    """A quarter more clicks, with at most 30,000 answers of each model."""
    random = np.random.default_rng(13)
    runs = [run(random, clicks, lift=0.25) for _ in range(50)]
    assert np.mean([one.anytime_missed for one in runs]) <= 0.05
    assert all(one.found_at is not None for one in runs)
    widths = [width(one.last) for one in runs]
    assert 1.6 < min(widths) < max(widths) < 2.1


def width(found: Difference) -> float:
    """Of the anytime-valid interval, as a multiple of the fixed one's."""
    assert found.anytime
    return (found.anytime.high - found.anytime.low) / (found.fixed.high - found.fixed.low)


def scaled(moments: Moments, times: float) -> Moments:
    """What `times` the data would be, with the same means and variance."""
    count, *sums = astuple(moments)
    return Moments(round(count * times), *(value * times for value in sums))


@pytest.mark.parametrize(
    ("answers", "lift"), [(3000, 0.1), (1500, 0.2), (50_000, 0.04), (120, 1.0), (30, 2.0)]
)
def test_with_so_much_more_the_interval_leaves_zero(answers: int, lift: float) -> None:
    random = np.random.default_rng(15)
    one, other = Moments(), Moments()
    one.add(*clicks(random, answers, RATE * (1 + lift)))
    other.add(*clicks(random, answers, RATE))
    found = compare(one, other)
    assert found
    assert found.more
    whole = one.bottom + other.bottom
    for share, shows in ((0.98, False), (1.02, True)):
        times = 1 + found.more / whole * share
        later = compare(scaled(one, times), scaled(other, times))
        assert later
        assert bool(later.anytime and later.anytime.low * later.anytime.high > 0) == shows


def test_how_much_more_where_there_is_none_or_no_difference() -> None:
    random = np.random.default_rng(16)
    one, other = Moments(), Moments()
    one.add(*clicks(random, 30_000, RATE * 2))
    other.add(*clicks(random, 30_000, RATE))
    assert (found := compare(one, other))
    assert found.more == 0
    assert (found := compare(one, one))
    assert found.more is None
    silent, lone = Moments(), Moments()
    silent.add(np.zeros(500), np.full(500, 10.0))
    lone.add(np.array([1.0]), np.array([10.0]))
    for little in (silent, lone):
        assert (found := compare(one, little))
        assert found.more is None


def test_what_is_said_to_be_needed_is_about_what_is_needed() -> None:
    """A true lift, asked after 500 answers of each model: the median is off by less than three."""
    random = np.random.default_rng(17)
    ratios = []
    for _ in range(40):
        one, other = Moments(), Moments()
        first, needed = None, None
        for look in range(1, 400):
            one.add(*clicks(random, 100, RATE * 1.3))
            other.add(*clicks(random, 100, RATE))
            found = compare(one, other)
            assert found
            if look == 5:
                first = found.more
            if found.anytime and found.anytime.low > 0:
                needed = (look - 5) / look * (one.bottom + other.bottom)
                break
        if first and needed and needed > 0:
            ratios.append(first / needed)
    assert len(ratios) > 20
    assert 1 / 3 < np.median(ratios) < 3


def test_with_little_there_is_no_anytime_interval() -> None:
    random = np.random.default_rng(14)
    one, other, silent = Moments(), Moments(), Moments()
    assert compare(one, other) is None
    one.add(*clicks(random, 5000, RATE))
    assert compare(one, other) is None
    other.add(*clicks(random, MIN_ANSWERS - 1, 0.2))
    found = compare(one, other)
    assert found
    assert found.anytime is None
    assert found.fixed.low < found.value < found.fixed.high
    other.add(*clicks(random, 1, 0.2))
    assert (found := compare(one, other))
    assert found.anytime
    silent.add(np.zeros(5000), np.full(5000, 10.0))
    assert (found := compare(one, silent))
    assert found.anytime is None
