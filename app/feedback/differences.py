"""How much two models of one alias differ, for those who look once and for those who keep looking.

A fixed 95 % interval holds for one look, at a time that was set before. Whoever looks each hour and
stops at the first difference is wrong far more often than in 5 % of the experiments. An
anytime-valid interval (a confidence sequence) holds at all looks together: in 95 % of the
experiments it contains the true difference at each look from the first to the last, so it may be
looked at whenever one likes, and an experiment may end because of what it shows. It is 1.7 to
2.1 times as wide for 5,000 to 500,000 answers of each model, and wider for fewer.

It is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52),
with two changes. Their mean of independent values is here a ratio of two sums, with its variance by
linearization (Moments.variance). And each model has its own supermartingale, a normal mixture with
the same tuning; their product is one, too, by Ville's inequality below 1/alpha forever with
probability 1 - alpha, however the readers' split changes on the way. That bounds the two models'
errors together by an ellipse, and the interval is the largest difference on it (Cauchy-Schwarz).

Both models' answers must be counted from one fixed start: answers that leave the figures at the old
end, as with the last 7 days, void what is promised.
"""

from collections.abc import Sequence
from math import ceil, log, sqrt

from app.feedback.figures import MIN_ANSWERS, MIN_CLICKS, Difference, Range
from app.feedback.intervals import Moments

ALPHA = 0.05
TUNED_FOR = 10_000
"""Answers with feedback of each model at which the anytime-valid interval is the narrowest compared
with the fixed one. Fixed in advance: a choice that depends on the data voids the guarantee."""
RHO_SQUARED = 4.744 / TUNED_FOR
"""The mixture's variance. 4.744 is x = ln(1/alpha) + ln(1 + x), which minimizes `anytime_half` with
TUNED_FOR answers of each model."""
MOST_TIMES = 1e6
"""A difference that needs more than so many times the data of now counts as none."""


def compare(one: Moments, other: Moments) -> Difference | None:
    """The difference of two shares, with intervals; None if either has no data."""
    first, second = one.share(), other.share()
    if first is None or second is None:
        return None
    value = first.value - second.value
    # Zou and Donner (2008): the two intervals' own halves, squared and added.
    down = sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    up = sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    half = anytime_half(one, other)
    return Difference(
        value=value,
        fixed=Range(low=value - down, high=value + up),
        anytime=None if half is None else Range(low=value - half, high=value + half),
        more=more_needed((one, other), value),
    )


def anytime_half(one: Moments, other: Moments) -> float | None:
    """Half the width of the anytime-valid interval; None with too little data."""
    both = one, other
    return half_after(both, 1.0) if times_to_begin(both) <= 1 else None


def times_to_begin(both: Sequence[Moments]) -> float:
    """How many times the data of now is the least for an anytime-valid interval."""
    return max(
        need / has if has else float("inf")
        for each in both
        for need, has in ((MIN_ANSWERS, each.count), (MIN_CLICKS, each.top))
    )


def half_after(both: Sequence[Moments], times: float) -> float:
    """Half the width of the anytime-valid interval with so many times the data, whose variance is
    what it is now."""
    spread, bound = 0.0, 2 * log(1 / ALPHA)
    for each in both:
        grown = each.count * times * RHO_SQUARED
        spread += each.variance / times * (1 + 1 / grown)
        bound += log(1 + grown)
    return sqrt(spread * bound)


def more_needed(both: Sequence[Moments], value: float) -> int | None:
    """See Difference.more."""
    least = max(times_to_begin(both), 1.0)
    if least > MOST_TIMES or any(each.count < 2 for each in both):
        return None
    if half_after(both, MOST_TIMES) >= abs(value):
        return None
    low, high = least, MOST_TIMES  # the half falls with more data
    if half_after(both, low) < abs(value):
        high = low
    while high > low * 1.001:
        middle = sqrt(low * high)
        low, high = (low, middle) if half_after(both, middle) < abs(value) else (middle, high)
    return ceil((high - 1) * sum(each.bottom for each in both))
