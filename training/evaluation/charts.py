"""Curves of evaluations as SVG pictures to put into a page."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.evaluation.record import CalibrationBin, Histogram, ModelResult

INK = "#010203"
"""Stands for the page's own colour of text, which is light in dark mode."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
"""By Okabe and Ito, told apart by colour-blind readers too. A model has one colour in all charts.
"""
CLICKED, NOT_CLICKED = "#D55E00", "#7A8794"
GREY = "#7A8794"
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's own font
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def colour(number: int) -> str:
    """The colour of the page's model of that number, from 0."""
    return COLOURS[number % len(COLOURS)]


@mpl.rc_context(STYLE)
def draw_auc(models: Sequence[ModelResult], names: Sequence[str]) -> Markup:
    """Each model's AUC with its interval, the first at the top, and what chance gives."""
    figure, axes = canvas(4.6, 0.7 + 0.4 * len(models))
    for number, model in enumerate(models):
        auc = model.figures.get("auc")
        if auc is None or auc.value is None:
            continue
        if auc.low is not None and auc.high is not None:
            axes.plot([auc.low, auc.high], [number] * 2, color=colour(number), linewidth=2.0)
        axes.plot([auc.value], [number], "o", color=colour(number), markersize=6)
    axes.axvline(0.5, color=GREY, linewidth=1.0, linestyle=":")
    axes.set_yticks(range(len(models)), [plain(name) for name in names])
    axes.set(xlabel="AUC, mean over impressions; dotted: chance", ylim=(len(models) - 0.5, -0.5))
    return svg(figure, "AUC of each model with its interval")


@mpl.rc_context(STYLE)
def draw_roc(models: Sequence[ModelResult], names: Sequence[str]) -> Markup:
    """The ROC curves of all models in one chart."""
    figure, axes = canvas(4.6, 4.2)
    for number, (model, name) in enumerate(zip(models, names, strict=True)):
        roc = model.roc
        label = f"{name} ({roc.area:.3f})"
        rates = (roc.false_positive_rate, roc.true_positive_rate)
        axes.plot(*rates, color=colour(number), linewidth=1.6, label=plain(label))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle=":")
    axes.set(xlabel="non-clicks called clicks", ylabel="clicks called clicks")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="lower right")
    return svg(figure, "ROC curves over all candidates")


@mpl.rc_context(STYLE)
def draw_calibration(bins: Sequence[CalibrationBin], name: str, number: int) -> Markup:
    """The share clicked by predicted probability. number: of the model, for its colour."""
    figure, axes = canvas(3.6, 3.4)
    predicted = [bin.predicted for bin in bins]
    observed = [bin.observed for bin in bins]
    top = min(1.0, 1.08 * max(*predicted, *observed, 0.01))
    axes.plot([0, top], [0, top], color=GREY, linewidth=1.0, linestyle=":")
    axes.plot(predicted, observed, "o-", color=colour(number), markersize=4, linewidth=1.2)
    axes.set(xlabel="predicted probability", ylabel="share clicked", title=plain(name))
    axes.set(xlim=(0, top), ylim=(0, top))
    return svg(figure, f"Calibration curve of {name}")


@mpl.rc_context(STYLE)
def draw_histogram(found: Histogram, name: str) -> Markup:
    """The scores on an axis of log-odds, whose ticks are probabilities."""
    figure, axes = canvas(3.6, 2.7)
    edges = found.log_odds_edges
    for shares, label, shade in (
        (found.not_clicked, "not clicked", NOT_CLICKED),
        (found.clicked, "clicked", CLICKED),
    ):
        axes.stairs(shares, edges, fill=True, alpha=0.35, color=shade)
        axes.stairs(shares, edges, color=shade, linewidth=1.2, label=label)
    ticks = [edges[round(i * (len(edges) - 1) / 4)] for i in range(5)]
    axes.set_xticks(ticks, [f"{1 / (1 + math.exp(-tick)):.2g}" for tick in ticks])
    axes.set(xlabel="probability", ylabel="share", title=plain(name))
    axes.margins(x=0)
    axes.legend(loc="best")
    return svg(figure, f"Scores of {name}, clicked and not clicked")


@mpl.rc_context(STYLE)
def draw_losses(log: Sequence[Mapping[str, Any]], name: str, number: int) -> Markup:
    """Losses by step. log: lines of a training log. number: of the model, for its colour."""
    figure, axes = canvas(3.6, 2.7)
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "validation", "o--")):
        points = [(line["current_steps"], line[key]) for line in log if key in line]
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, style, color=colour(number), markersize=4, label=label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set(xlabel="step", ylabel="loss", title=plain(name))
    axes.legend(loc="best")
    return svg(figure, f"Loss while training {name}")


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty chart of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def plain(text: str) -> str:
    """The text, so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")


def svg(figure: Figure, title: str) -> Markup:
    """An <svg> element that takes its container's width. Screen readers read `title`."""
    content = io.StringIO()
    with mpl.rc_context(
        {"svg.hashsalt": title}
    ):  # ids are the same each time, and differ by picture
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    # matplotlib escapes the texts that it writes, and Markup the title.
    head = Markup('<svg role="img" aria-label="{}"').format(title)
    return head + Markup(text.removeprefix("<svg"))
