"""How well rankers order impressions, against each other and by what was known of the stories."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.ranker.features import NAMES, Floats
from training import metrics
from training.metrics import Estimate, Flags, Ratio
from training.ranking.rows import Rows

KNOWN = {"0": (0, 0), "1-10": (1, 10), "11-100": (11, 100), "over 100": (101, np.inf)}
"""Impressions of a story so far: from, to."""
ROUNDS, SEED = 1000, 0
TEXT_ALONE, RATE_ALONE = "text alone", "click-through alone"
FIRST_STAGE, ALL, FRESH = "trees without text", "all", "all, no live figures"


@dataclass(frozen=True, slots=True)
class Line:
    """One ranker's figures: by name, such as auc, log_loss or "auc 11-100"."""

    name: str
    figures: dict[str, Estimate]
    ece: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """impressions, candidates: measured on. lines: of each ranker. gains: of one ranker over
    another, on the same impressions, by their names."""

    impressions: int
    candidates: int
    lines: list[Line]
    gains: dict[str, dict[str, Estimate]]

    def __str__(self) -> str:
        lines = [f"{self.impressions:,} impressions, {self.candidates:,} candidates"]
        for line in self.lines:
            shown = [
                f"{n} {e.value:.4f} [{e.low:.4f}, {e.high:.4f}]" for n, e in line.figures.items()
            ]
            ece = "" if line.ece is None else f"  ECE {line.ece:.4f}"
            lines.append(f"{line.name}{ece}\n    " + "\n    ".join(shown))
        for name, gain in self.gains.items():
            shown = [f"{n} {e.value:+.4f} [{e.low:+.4f}, {e.high:+.4f}]" for n, e in gain.items()]
            lines.append(f"{name}\n    " + "\n    ".join(shown))
        return "\n".join(lines)


def report(rows: Rows, log_odds: Mapping[str, Floats]) -> Report:
    """log_odds: by ranker, [candidates]; those of ALL, FIRST_STAGE and FRESH are calibrated."""
    figures = {name: measure(rows, scores, name) for name, scores in log_odds.items()}
    lines = [
        Line(name, metrics.estimates(found, ROUNDS, SEED), ece(rows, log_odds[name], name))
        for name, found in figures.items()
    ]
    pairs = ((ALL, TEXT_ALONE), (ALL, FIRST_STAGE), (ALL, RATE_ALONE), (FRESH, TEXT_ALONE))
    gains = {
        f"{one} - {other}": metrics.differences(figures[one], figures[other], ROUNDS, SEED)
        for one, other in pairs
        if one in figures and other in figures
    }
    return Report(len(rows.ids), len(rows.clicked), lines, gains)


def measure(rows: Rows, scores: Floats, name: str) -> dict[str, Ratio]:
    """MIND's figures; the AUC by what is known of the clicked story; the log-loss of
    probabilities."""
    clicked: list[Flags] = rows.split(rows.clicked)  # type: ignore[assignment]
    by_row: list[Floats] = rows.split(scores)  # type: ignore[assignment]
    found = metrics.ranking(clicked, by_row)
    shown: list[Floats] = rows.split(rows.shown)  # type: ignore[assignment]
    for label, (low, high) in KNOWN.items():
        known = [(low <= number) & (number <= high) for number in shown]
        found[f"auc {label}"] = auc_of_clicks(clicked, by_row, known)
    if is_calibrated(name):
        found["log_loss"] = metrics.log_loss(clicked, [1 / (1 + np.exp(-row)) for row in by_row])
    return found


def clicks_by_known(rows: Rows) -> dict[str, int]:
    """How many clicks are on stories that had been shown so often before, by KNOWN's names."""
    shown = rows.shown[rows.clicked]
    return {
        name: int(((low <= shown) & (shown <= high)).sum()) for name, (low, high) in KNOWN.items()
    }


def auc_of_clicks(clicked: list[Flags], scores: list[Floats], chosen: list[Flags]) -> Ratio:
    """Of the chosen clicks, the mean share of the impression's non-clicks that score lower."""
    top, bottom = np.zeros(len(clicked)), np.zeros(len(clicked))
    for number, (flags, row, kept) in enumerate(zip(clicked, scores, chosen, strict=True)):
        own, others = row[flags & kept], row[~flags]
        if len(own) and len(others):
            lower = (own[:, None] > others).mean(1) + (own[:, None] == others).mean(1) / 2
            top[number], bottom[number] = lower.sum(), len(own)
    return Ratio(top, bottom)


def ece(rows: Rows, log_odds: Floats, name: str) -> float | None:
    """The expected calibration error of what is calibrated."""
    if not is_calibrated(name):
        return None
    bins = metrics.calibration_bins(rows.clicked, 1 / (1 + np.exp(-log_odds)))
    return metrics.expected_calibration_error(bins)


def is_calibrated(name: str) -> bool:
    """Whether a ranker's scores are log-odds of a click."""
    return name in (ALL, FIRST_STAGE, FRESH)


def column(rows: Rows, name: str) -> Floats:
    """One feature of all candidates."""
    return np.nan_to_num(rows.matrix[:, NAMES.index(name)]).astype(np.float64)
