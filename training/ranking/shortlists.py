"""How good the order is if the language model judges only those that the first stage likes best."""

from dataclasses import dataclass

import numpy as np

from app.ranker.features import Floats
from training import metrics
from training.metrics import Estimate, Flags
from training.ranking.figures import ROUNDS, SEED
from training.ranking.rows import Rows

LENGTHS = (0, 3, 5, 10, 15, 20, 30, 50)


@dataclass(frozen=True, slots=True)
class Curve:
    """One length of the shortlist. judged: the share of the candidates that are on it. figures: by
    name. loss: nDCG@10, less that of judging all, on the same impressions."""

    length: int
    judged: float
    figures: dict[str, float]
    loss: Estimate

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in self.figures.items())
        loss = f"{self.loss.value:+.4f} [{self.loss.low:+.4f}, {self.loss.high:+.4f}]"
        return f"  {self.length}: {self.judged:.0%} of the candidates, {shown}; nDCG@10 {loss}"


def measure_shortlists(rows: Rows, full: Floats, first: Floats) -> list[Curve]:
    """full, first: the two stages' log-odds, [candidates]."""
    clicked: list[Flags] = rows.split(rows.clicked)  # type: ignore[assignment]
    whole: list[Floats] = rows.split(full)  # type: ignore[assignment]
    early: list[Floats] = rows.split(first)  # type: ignore[assignment]
    every = metrics.ranking(clicked, whole)
    found = []
    for length in LENGTHS:
        orders = [order(*pair, length) for pair in zip(whole, early, strict=True)]
        figures = metrics.ranking(clicked, orders)
        loss = metrics.differences(figures, every, ROUNDS, SEED)["ndcg_at_10"]
        judged = float(np.minimum(rows.sizes, length).sum() / rows.sizes.sum())
        values = {name: figure.value for name, figure in figures.items()}
        found.append(Curve(length, judged, values, loss))
    return found


def order(full: Floats, first: Floats, length: int) -> Floats:
    """Scores that order as the service does: the shortlist first, by `full`, then the others."""
    behind = 1.0 + np.ptp(first) + np.ptp(full) + abs(full.max() - first.max())
    scores = first - behind
    chosen = np.argsort(-first, kind="stable")[:length]
    scores[chosen] = full[chosen]
    return np.asarray(scores, np.float64)
