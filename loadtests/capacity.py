"""Estimate how many GPUs a news site needs and what they cost.

  python -m loadtests.capacity --rate 1593

The estimate follows from one measured figure, the candidates a GPU scores per second, and from
assumptions about the site, each of which is an option. Prints a Markdown table.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

DAY_S = 86_400
HOUR_S = 3_600


@dataclass(frozen=True)
class Assumptions:
    """What is known and assumed about the site and its GPUs.

    rate: measured candidates per second of one GPU. candidates: stories scored per page view.
    peak: traffic of the busiest hour divided by the day's mean. load: share of its rate at which a
    GPU is planned to run. spare: extra GPUs for failures and updates, as a share. price: of one GPU
    hour, in any currency.
    """

    rate: float
    candidates: int
    peak: float
    load: float
    spare: float
    price: float


@dataclass(frozen=True)
class Site:
    """What a site with `views` page views a day needs.

    scaled_hours: GPU hours a day if the number of replicas follows the traffic exactly.
    fixed_hours: GPU hours a day if it stays at what the peak needs.
    """

    views: float
    mean_per_s: float
    peak_per_s: float
    replicas: int
    fixed_hours: float
    scaled_hours: float
    fixed_cost: float
    scaled_cost: float


def hours_per_million(rate: float) -> float:
    """GPU hours needed to score a million candidates at full rate."""
    return 1e6 / rate / HOUR_S


def plan(views: float, given: Assumptions) -> Site:
    """Plan for `views` page views a day, with at least two replicas so that one may fail."""
    mean = views * given.candidates / DAY_S
    peak = mean * given.peak
    planned = given.rate * given.load
    replicas = max(2, math.ceil(peak / planned * (1 + given.spare)))
    fixed = replicas * 24.0
    scaled = min(fixed, max(2 * 24.0, mean / planned * (1 + given.spare) * 24))
    costs = fixed * given.price, scaled * given.price
    return Site(views, mean, peak, replicas, fixed, scaled, *costs)


def table(sites: Sequence[Site]) -> str:
    """A Markdown table with one row per site."""
    head = ("views a day", "candidates/s", "at the peak", "GPUs", "GPU hours a day", "cost a day")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += [
        f"| {site.views:,.0f} | {site.mean_per_s:,.0f} | {site.peak_per_s:,.0f}"
        f" | {site.replicas:,} | {site.scaled_hours:,.0f} to {site.fixed_hours:,.0f}"
        f" | {site.scaled_cost:,.0f} to {site.fixed_cost:,.0f} |"
        for site in sites
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rate", type=float, required=True, help="candidates per second of one GPU"
    )
    parser.add_argument(
        "--views", type=float, nargs="+", default=[1e6, 1e7, 5e7, 1e8], help="page views a day"
    )
    parser.add_argument("--candidates", type=int, default=50, help="stories scored per page view")
    parser.add_argument(
        "--peak", type=float, default=3.0, help="traffic of the busiest hour divided by the mean"
    )
    parser.add_argument(
        "--load", type=float, default=0.6, help="share of the rate at which a GPU is planned to run"
    )
    parser.add_argument("--spare", type=float, default=0.1, help="extra GPUs, as a share")
    parser.add_argument("--price", type=float, default=3.0, help="price of a GPU hour")
    options = parser.parse_args()
    names = ("rate", "candidates", "peak", "load", "spare", "price")
    for name in names:
        if getattr(options, name) <= 0 and name != "spare":
            parser.error(f"--{name} must be above 0")
    given = Assumptions(**{name: getattr(options, name) for name in names})
    hours = hours_per_million(given.rate)
    print(f"A million candidates: {hours:.2f} GPU hours at full rate, {hours / given.load:.2f}")
    print(f"at a load of {given.load:.0%}.\n")
    print(table([plan(views, given) for views in options.views]))


if __name__ == "__main__":
    main()
