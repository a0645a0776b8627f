"""From a prepared folder and files with scores to what their orders would have earned."""

import json
from collections.abc import Sequence

import numpy as np

from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.evaluation.comparison import as_figures
from training.evaluation.logged import Found, Rules, estimate, judge
from training.evaluation.options import EstimateOptions
from training.evaluation.positions import compare, pool
from training.evaluation.record import Figure, Record
from training.evaluation.shown import Ints, Shown, ordered_by, place_scores, read_shown
from training.folders import write_whole
from training.metrics import Flags, Floats
from training.progress import say

SERVED_BINS = 20
"""Groups of equally many candidates with similar scores."""


class PlaceLine(Record):
    """Places first to last, from 1; last is None for all from there on. looked_at: how likely,
    relative to the first."""

    first: int
    last: int | None
    looked_at: Figure


class OrderLine(Record):
    """clicks, over_logged, over_first: in clicks a list. effective_clicks: Kish's effective sample
    size. clipped: the share of clicks whose weight was clipped."""

    name: str
    clicks: Figure
    over_logged: Figure
    over_first: Figure | None
    effective_clicks: float
    clipped: float


class Earnings(Record):
    """The file that the command writes. compared: what places were compared by. lists, readers,
    clicks: on which orders were judged."""

    data_hash: str
    compared: str
    lists: int
    readers: int
    clicks: int
    places: list[PlaceLine]
    logged: Figure
    orders: list[OrderLine]

    def table(self) -> list[str]:
        """Lines to print."""
        lines = [
            f"{self.lists:,} lists of {self.readers:,} readers with {self.clicks:,} clicks; 95 %"
            " intervals over readers",
            f"places, compared by {self.compared}:",
            f"  {'place':<10} looked at",
        ]
        for place in self.places:
            until = "" if place.last == place.first else f"-{place.last or ''}"
            lines.append(f"  {f'{place.first}{until}':<10} {in_words(place.looked_at)}")
        lines += [
            f"  {'order':<20} {'clicks a list':<27} {'over the logged':<30} effective  clipped",
            f"  {'as logged':<20} {in_words(self.logged)}",
        ]
        for one in self.orders:
            lines.append(
                f"  {one.name:<20} {in_words(one.clicks):<27} {in_words(one.over_logged, '+'):<30}"
                f" {one.effective_clicks:>9,.0f} {one.clipped:>7.1%}"
            )
        for one in self.orders[1:]:
            assert one.over_first is not None
            lines.append(
                f"  {one.name} over {self.orders[0].name}: {in_words(one.over_first, '+')}"
            )
        return lines


def estimate_earnings(options: EstimateOptions) -> Earnings:
    """Estimate, and write the file. Raises TrainingError."""
    data = PreparedData(options.data)
    shown = read_shown(data.log())
    scores = [place_scores(shown, files) for files in options.files.values()]
    lists = np.logical_and.reduce([has_scores(shown, one) for one in scores])
    if not lists.any():
        raise TrainingError("--scores: no impression has the scores of all of them")
    say(f"{lists.sum():,} of {len(lists):,} impressions have scores")
    levels = pool(shown.places, shown.clicked, options.depth)
    compared, used, groups = group(shown, options)
    places = compare(shown, levels, used, groups)
    judged = judge(shown, levels, lists, scores, options.seed)
    found = estimate(places, judged, list(options.files), rules_of(options))
    earnings = Earnings(
        data_hash=data.data_hash,
        compared=compared,
        lists=int(lists.sum()),
        readers=len(np.unique(judged.list_readers)),
        clicks=int(judged.clicked.sum()),
        places=place_lines(levels, found),
        logged=as_figures({"logged": found.logged})["logged"],
        orders=order_lines(list(options.files), found),
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.output, json.dumps(earnings.model_dump(mode="json"), indent=2) + "\n")
    return earnings


def in_words(figure: Figure, sign: str = "") -> str:
    """A figure with its interval. sign: "+" for a difference."""
    return f"{figure.value:{sign}.4f} ({figure.low:{sign}.4f} to {figure.high:{sign}.4f})"


def rules_of(options: EstimateOptions) -> Rules:
    return Rules(
        clip=options.clip,
        least=options.least_clicks,
        monotone=not options.any_shape,
        rounds=options.bootstrap,
        seed=options.seed,
    )


def has_scores(shown: Shown, scores: Floats) -> Flags:
    """Which lists have scores, [lists]; scores: [candidates]."""
    found: Flags = ~np.isnan(scores[shown.starts])
    return found


def group(shown: Shown, options: EstimateOptions) -> tuple[str, Flags, Ints]:
    """What places are compared by: in words, on which lists, and a number for each candidate's
    group."""
    if options.random is not None:
        lists = ordered_by(shown, options.shown, options.random)
        number = shown.each(np.arange(len(shown.sizes)))
        return f"{lists.sum():,} lists that {options.random} ordered at random", lists, number
    days = shown.each(shown.days)
    story = shown.stories * (int(days.max()) + 1) + days
    if options.same_for_all:
        every = np.ones(len(shown.sizes), np.bool_)
        return "the same story on the same day", every, story
    scores = place_scores(shown, options.served)
    lists = has_scores(shown, scores)
    share = in_order(shown, scores)
    compared = (
        f"the same story on the same day with like --served, which order {share:.0%} of pairs"
    )
    return compared, lists, story * SERVED_BINS + bins(scores)


def bins(scores: Floats) -> Ints:
    """The bin of each score, 0 to SERVED_BINS - 1; both [candidates]."""
    edges = np.nanquantile(scores, np.linspace(0, 1, SERVED_BINS + 1)[1:-1])
    return np.searchsorted(edges, scores).astype(np.int64)


def in_order(shown: Shown, scores: Floats) -> float:
    """The share of neighbours with unequal scores [candidates] of which the higher was shown first.
    Raises TrainingError where it is half or less."""
    change = np.diff(scores)[shown.places[1:] > 0]
    change = change[~np.isnan(change) & (change != 0)]
    share = float((change < 0).mean()) if len(change) else 0.0
    if share <= 0.5:
        raise TrainingError(
            f"--served: of neighbours with unequal scores only {share:.0%} stand in this order, so"
            " these scores did not order the log"
        )
    return share


def place_lines(levels: Ints, found: Found) -> list[PlaceLine]:
    """levels: [places]."""
    figures = as_figures({str(level): one for level, one in enumerate(found.propensities)})
    lines = []
    for level, figure in enumerate(figures.values()):
        own = np.flatnonzero(levels == level) + 1
        last = None if level == levels[-1] else int(own[-1])
        lines.append(PlaceLine(first=int(own[0]), last=last, looked_at=figure))
    return lines


def order_lines(names: Sequence[str], found: Found) -> list[OrderLine]:
    """names: of the orders."""
    lines = []
    for name, line in zip(names, found.lines, strict=True):
        parts = {"clicks": line.clicks, "over_logged": line.over_logged}
        figures = as_figures(parts if line.over_first is None else parts | {"f": line.over_first})
        lines.append(
            OrderLine(
                name=name,
                clicks=figures["clicks"],
                over_logged=figures["over_logged"],
                over_first=figures.get("f"),
                effective_clicks=line.effective,
                clipped=line.clipped,
            )
        )
    return lines
