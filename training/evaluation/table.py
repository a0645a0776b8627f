"""The page's table of figures: a row for each figure, a cell for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.evaluation.record import Figure, ModelResult, RankerLine


@dataclass(frozen=True, slots=True)
class Format:
    """How figures are written: printf formats of one number, and of an interval's two."""

    value: str
    interval: str


@dataclass(frozen=True, slots=True)
class Kind:
    """How a sort of figure is written. scale: what it is multiplied by."""

    scale: float
    figure: Format
    change: Format


PLAIN = Kind(1, Format("%.3f", "%.3f to %.3f"), Format("%+.3f", "%+.3f to %+.3f"))
PERCENT = Kind(100, Format("%.1f %%", "%.1f to %.1f"), Format("%+.1f", "%+.1f to %+.1f"))
"""A share; the difference of two is in percentage points."""
HIGHEST, LOWEST = 1, -1
RANKER_FIGURES = ("auc", "mrr", "ndcg_at_5", "ndcg_at_10", "log_loss", "ece")


@dataclass(frozen=True, slots=True)
class Line:
    """A row's heading. name: the figure's. best: HIGHEST or LOWEST."""

    name: str
    title: str
    note: str
    kind: Kind
    best: int


LINES = (
    Line("auc", "AUC", "mean over impressions", PLAIN, HIGHEST),
    Line("mrr", "MRR", "mean over impressions", PLAIN, HIGHEST),
    Line("ndcg_at_5", "nDCG@5", "mean over impressions", PLAIN, HIGHEST),
    Line("ndcg_at_10", "nDCG@10", "mean over impressions", PLAIN, HIGHEST),
    Line("log_loss", "log-loss", "in nats, over candidates", PLAIN, LOWEST),
    Line("ece", "ECE", "calibration error", PLAIN, LOWEST),
    Line("pair_order", "pairs in order", "the click scores higher", PERCENT, HIGHEST),
    Line("pair_accuracy", "accuracy, label", "on balanced pairs", PERCENT, HIGHEST),
    Line("text_accuracy", "accuracy, text", "on balanced pairs", PERCENT, HIGHEST),
    Line("unknown", "Unknown, label", "over candidates", PERCENT, LOWEST),
    Line("text_unknown", "Unknown, text", "counted as wrong above", PERCENT, LOWEST),
    Line("text_agreement", "text is the label", "on the pairs asked in text", PERCENT, HIGHEST),
    Line("sure_mass", "labels hold 95 %", "or more: of the candidates", PERCENT, HIGHEST),
)


Measured = ModelResult | RankerLine


def ranker_lines(clicks: Mapping[str, int]) -> list[Line]:
    """The rows of a ranker's table. clicks: by how often their story had been shown before."""
    quality = [line for line in LINES if line.name in RANKER_FIGURES]
    return quality + [
        Line(f"auc {known}", f"AUC, shown {known}", f"before; clicks: {count:,}", PLAIN, HIGHEST)
        for known, count in clicks.items()
    ]


@dataclass(frozen=True, slots=True)
class Cell:
    """A model's figure, and its difference from the first model's. sure: the difference's interval
    leaves zero out."""

    figure: Figure | None
    change: Figure | None
    sure: bool
    best: bool


@dataclass(frozen=True, slots=True)
class Row:
    line: Line
    cells: list[Cell]


def make_rows(models: Sequence[Measured], lines: Sequence[Line] = LINES) -> list[Row]:
    """The rows of figures that at least one model has."""
    return [row for line in lines if (row := make_row(models, line)) is not None]


def make_row(models: Sequence[Measured], line: Line) -> Row | None:
    """One row; None if no model has the figure."""
    figures = [find_figure(model, line.name) for model in models]
    values = [one.value for one in figures if one is not None and one.value is not None]
    if not values:
        return None
    best = max(values) if line.best == HIGHEST else min(values)
    differ = len(set(values)) > 1
    return Row(
        line,
        [
            make_cell(one, model.differences.get(line.name), line.kind.scale, best, differ)
            for model, one in zip(models, figures, strict=True)
        ],
    )


def find_figure(model: Measured, name: str) -> Figure | None:
    """A model's figure by its name. ECE has no interval and is stored apart."""
    if name == "ece":
        if model.ece is None:
            return None
        return Figure(value=model.ece, low=None, high=None)
    return model.figures.get(name)


def make_cell(
    figure: Figure | None, change: Figure | None, scale: float, best: float, differ: bool
) -> Cell:
    """best: the row's best value. differ: whether the models' values do."""
    ends = (None, None) if change is None else (change.low, change.high)
    return Cell(
        figure=scaled(figure, scale),
        change=scaled(change, scale),
        sure=ends[0] is not None and ends[1] is not None and (ends[0] > 0 or ends[1] < 0),
        best=figure is not None and figure.value == best and differ,
    )


def scaled(one: Figure | None, scale: float) -> Figure | None:
    """The figure with all its numbers multiplied."""
    if one is None:
        return None
    return Figure(
        value=None if one.value is None else scale * one.value,
        low=None if one.low is None else scale * one.low,
        high=None if one.high is None else scale * one.high,
    )
