"""Ratios of two sums over answers, with 95 % intervals.

training/metrics.py computes the same by bootstrap, which needs all answers at once.

Answers are assumed to be independent; stories of one answer are not. Wilson's interval (1927) is
therefore computed for the effective sample size: the number of independent stories that would give
the same variance (Korn and Graubard 1998). Readers are not known here, so the intervals are too
narrow if most answers go to few readers.
"""

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray

from app.feedback.figures import Interval

Floats = NDArray[np.float64]

Z = 1.959964
"""95 % of a normal distribution lies within so many standard deviations of the mean."""
MAX_EXPECTED_IF_NO_CLICK = 3.688879
"""The upper 95 % limit of the expected clicks if none is seen (Poisson: -ln 0.025)."""


@dataclass(slots=True)
class Moments:
    """Sums over answers from which the ratio sum(top) / sum(bottom) and its variance follow."""

    count: int = 0
    top: float = 0.0
    bottom: float = 0.0
    top_top: float = 0.0
    top_bottom: float = 0.0
    bottom_bottom: float = 0.0

    def add(self, top: Floats, bottom: Floats) -> None:
        """Add answers. top, bottom: [answers]; an answer that does not count has 0 in both."""
        self.count += int(np.count_nonzero(bottom))
        self.top += float(top.sum())
        self.bottom += float(bottom.sum())
        self.top_top += float(top @ top)
        self.top_bottom += float(top @ bottom)
        self.bottom_bottom += float(bottom @ bottom)

    def merge(self, other: "Moments") -> None:
        """Add the sums over other answers."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def value(self) -> float:
        return self.top / self.bottom

    @property
    def variance(self) -> float:
        """The ratio's variance by linearization (Cochran 1977, 6.5); NaN for fewer than two
        answers."""
        if self.count < 2:
            return float("nan")
        ratio = self.value
        spread = self.top_top - 2 * ratio * self.top_bottom + ratio**2 * self.bottom_bottom
        return max(spread, 0.0) * self.count / (self.count - 1) / self.bottom**2

    def share(self) -> Interval | None:
        """The ratio as a share of stories, which are not independent within an answer; None
        without data."""
        if not self.bottom:
            return None
        if (self.top_top, self.bottom_bottom) == (self.top, self.bottom):
            return wilson(self.value, self.bottom)  # each answer is one trial: Wilson's own case
        size = 1.0 if self.count < 2 else self.bottom
        alone = self.value * (1 - self.value)  # the variance of one story
        if self.variance > 1e-12 * alone > 0:
            size = alone / self.variance * (Z / student(self.count - 1)) ** 2
        return wilson(self.value, size)

    def rate(self) -> Interval | None:
        """The ratio as clicks per expected click; None without data. The interval is symmetric on a
        logarithmic scale."""
        if not self.bottom:
            return None
        if not self.top:
            return Interval(0.0, 0.0, MAX_EXPECTED_IF_NO_CLICK / self.bottom)
        # A single answer says nothing about how answers vary, so its clicks are taken as Poisson.
        error = sqrt(self.variance if self.count > 1 else self.value / self.bottom) / self.value
        factor = exp(min(student(self.count - 1) if self.count > 1 else Z, 50.0) * error)
        return Interval(self.value, self.value / factor, self.value * factor)


def wilson(share: float, size: float) -> Interval:
    """Wilson's 95 % interval for a share of `size` independent trials."""
    square = Z**2 / size
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * sqrt(share * (1 - share) / size + square / size / 4)
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))


def student(freedom: float) -> float:
    """The quantile of Student's t distribution that replaces Z if the variance is estimated.

    The expansion (Cornish and Fisher 1937) is within 2 % from 4 degrees of freedom on, and too
    small below.
    """
    return (
        Z
        + (Z**3 + Z) / (4 * freedom)
        + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)
        + (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * freedom**3)
    )
