"""What a new model must show before a reader meets it."""

from pathlib import Path

import polars as pl

from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.evaluation.record import Evaluation, Figure, ModelResult
from training.refreshing.options import Gate
from training.refreshing.record import Check


def judge(gate: Gate, evaluation: Evaluation, traffic: "Traffic") -> list[Check]:
    """evaluation: of the served model and the new one, in this order, on the newest lists."""
    served, new = evaluation.models
    return [
        enough(gate, evaluation.data.ranked),
        better(gate, served, new),
        calibrated(gate, new),
        sure(gate, new.figures["sure_mass"]),
        usual(gate, traffic),
    ]


def enough(gate: Gate, ranked: int) -> Check:
    text = f"{ranked:,} of the newest lists have clicks and non-clicks; {gate.impressions:,} needed"
    return Check(name="impressions", passed=ranked >= gate.impressions, text=text)


def better(gate: Gate, served: ModelResult, new: ModelResult) -> Check:
    """As readers would get it: by the ranker where there is one."""
    for one in (served, new):
        if one.ranker is not None and one.ranker.refused is not None:
            return Check(
                name="better",
                passed=False,
                text=f"the ranker of {one.name} can't be measured: {one.ranker.refused}",
            )
    change = new.order.differences["auc"] if new.order else new.differences["auc"]
    if change.value is None or change.low is None or change.high is None:
        return Check(name="better", passed=False, text="too little data for an interval")
    kind = "its ranker" if new.order and new.order.by_ranker else "the language model alone"
    text = (
        f"AUC by {kind}: {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}] against the"
        f" served model; needed: {gate.margin:+g}, with the interval above zero"
    )
    return Check(name="better", passed=change.low > 0 and change.value >= gate.margin, text=text)


def calibrated(gate: Gate, new: ModelResult) -> Check:
    ece = new.order.ece if new.order else new.ece
    text = f"expected calibration error {ece:.4f}; at most {gate.ece:g}"
    return Check(name="calibrated", passed=ece <= gate.ece, text=text)


def sure(gate: Gate, share: Figure) -> Check:
    """Whether the language model still answers with its two labels."""
    value = share.value or 0.0
    text = f"labels hold 95 % of the probability for {value:.1%} of the stories; at least"
    text += f" {gate.label_mass:.0%}"
    return Check(name="label_mass", passed=value >= gate.label_mass, text=text)


class Traffic:
    """Click-through, by story shown, of the newest lists and of those before."""

    def __init__(self, newest: float, before: float) -> None:
        self.newest, self.before = newest, before

    @property
    def ratio(self) -> float:
        """Of the larger to the smaller; infinite where nothing was clicked."""
        low, high = sorted((self.newest, self.before))
        return high / low if low else float("inf")


def read_traffic(prepared: Path, fit: str) -> Traffic:
    """fit: since when lists are the newest, in ISO 8601. Raises TrainingError."""
    is_new = pl.col("time") >= pl.lit(fit).str.to_datetime()
    lists = PreparedData(prepared).log().drop_nulls("clicked")
    shares = (
        lists.group_by(is_new.alias("is_new")).agg(pl.col("clicked").explode().mean()).collect()
    )
    found = dict(shares.iter_rows())
    if len(found) < 2:
        side = "from" if False in found else "before"
        raise TrainingError(f"the store holds no lists {side} {fit}: days, fit_hours, test_hours")
    return Traffic(newest=found[True], before=found[False])


def usual(gate: Gate, traffic: Traffic) -> Check:
    text = (
        f"click-through of the newest lists {traffic.newest:.2%}, of those before"
        f" {traffic.before:.2%}; at most {gate.traffic:g} times apart"
    )
    return Check(name="traffic", passed=traffic.ratio <= gate.traffic, text=text)
