"""What rankers are given while they serve and what they make of it, as metrics."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import exp

import numpy as np
from numpy.typing import NDArray

from app.knowledge.judging import Judged
from app.observability import metrics
from app.ranker.features import NAMES, TEXT, Floats
from app.ranker.ranker import Description, Spread

MEMORY = 10_000
"""A candidate weighs 1/e after so many further ones."""
LEAST = 1_000
"""So many candidates must have been seen before a drift is reported."""
SHOWN, HISTORY = NAMES.index("shown"), NAMES.index("history_length")
VECTORS = [NAMES.index("cosine_mean"), NAMES.index("tower")]


class Drift:
    """How the features that serving sees differ from those in training.

    spreads: in training, by feature; features without one are left out.
    """

    def __init__(self, spreads: Mapping[str, Spread]) -> None:
        self.spreads = spreads
        self.seen = 0.0
        self._given = np.zeros(len(NAMES))
        self._sums = np.zeros(len(NAMES))

    def see(self, matrix: Floats) -> None:
        """matrix: [candidates, features]."""
        given = np.isfinite(matrix)
        kept = exp(-len(matrix) / MEMORY)
        self.seen = self.seen * kept + len(matrix)
        self._given = self._given * kept + given.sum(0)
        self._sums = self._sums * kept + np.where(given, matrix, 0.0).sum(0)

    def shift(self, name: str) -> float:
        """Of the mean, in standard deviations of training; NaN if the feature is always missing."""
        column, spread = NAMES.index(name), self.spreads[name]
        if not self._given[column]:
            return float("nan")
        mean = self._sums[column] / self._given[column]
        return float((mean - spread.mean) / spread.deviation)

    def missing_excess(self, name: str) -> float:
        """The share of candidates without the feature, less that in training."""
        share = self._given[NAMES.index(name)] / self.seen
        return float(1 - share - self.spreads[name].missing)

    def publish(self, model: str) -> None:
        """Have the metrics computed when they are read. A feature that was constant in training has
        no shift: no tree can ask for it."""
        for name, spread in self.spreads.items():
            if spread.deviation > 0:
                shift = metrics.FEATURE_SHIFT.labels(model, name)
                shift.set_function(partial(self.shift, name))
            excess = metrics.FEATURE_MISSING.labels(model, name)
            excess.set_function(partial(self.missing_excess, name))


class Watch:
    """What the rankers of all models see. Not for several threads."""

    def __init__(self) -> None:
        self._drifts: dict[str, Drift] = {}

    def observe(
        self, model: str, description: Description, judged: Judged, sizes: Sequence[int]
    ) -> None:
        """sizes: how many of the targets are of each pair."""
        matrix = judged.matrix
        metrics.RANKED.labels(model).inc(len(matrix))
        known = {
            "live": matrix[:, SHOWN] > 0,
            "history": matrix[:, HISTORY] > 0,
            "vectors": np.isfinite(matrix[:, VECTORS]).any(1),
        }
        for name, each in known.items():
            metrics.COVERED.labels(model, name).inc(int(np.count_nonzero(each)))
        moved = metrics.MOVED.labels(model)
        for one in moves(matrix[:, TEXT], judged.order, sizes):
            moved.observe(one)
        if judged.by_text.any():
            self._see(model, description, matrix[judged.by_text])

    def _see(self, model: str, description: Description, matrix: Floats) -> None:
        drift = self._drifts.get(model)
        if drift is None or drift.spreads is not description.spreads:  # another version
            for gauge in (metrics.FEATURE_SHIFT, metrics.FEATURE_MISSING):
                gauge.remove_by_labels({"model": model})
            drift = self._drifts[model] = Drift(description.spreads)
        is_new = drift.seen < LEAST
        drift.see(matrix)
        if is_new and drift.seen >= LEAST:
            drift.publish(model)


def moves(text: Floats, order: Sequence[int], sizes: Sequence[int]) -> Iterator[float]:
    """Of each list with at least two stories that the language model judged, how far their order is
    from its own: the mean change of rank by the number of stories. That is Spearman's footrule
    (1906), divided by n².

    text: the language model's log-odds, NaN where it was not asked. order: of all targets.
    """
    places = np.empty(len(text))
    places[list(order)] = np.arange(len(text))
    end = 0
    for size in sizes:
        start, end = end, end + size
        asked = start + np.flatnonzero(~np.isnan(text[start:end]))
        if len(asked) > 1:
            change = ranks(-places[asked]) - ranks(text[asked])
            yield float(np.abs(change).mean() / len(asked))


def ranks(values: Floats) -> NDArray[np.int64]:
    """Each one's place from the highest, 0 first; ties keep their order."""
    places = np.empty(len(values), np.int64)
    places[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return places
