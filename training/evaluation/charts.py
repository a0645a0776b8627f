"""evaluation.json's curves as SVG pictures to put into a page."""

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind readers tell apart; a model keeps its colour."""
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
}


def colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


@mpl.rc_context(STYLE)
def draw_roc(models: Sequence[dict[str, Any]]) -> Markup:
    figure, axes = canvas(4.6, 4.2)
    for number, model in enumerate(models):
        roc = model["roc"]
        label = f"{model['name']} ({roc['area']:.3f})"
        rates = (roc["false_positive_rate"], roc["true_positive_rate"])
        axes.plot(*rates, color=colour(number), linewidth=1.6, label=plain(label))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle=":")
    axes.set(xlabel="non-clicks called clicks", ylabel="clicks called clicks")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="lower right")
    return svg(figure, "ROC curves over all candidates")


@mpl.rc_context(STYLE)
def draw_calibration(model: dict[str, Any], number: int) -> Markup:
    figure, axes = canvas(3.6, 3.4)
    bins = model["calibration"]
    predicted = [bin["predicted"] for bin in bins]
    observed = [bin["observed"] for bin in bins]
    top = min(1.0, 1.08 * max(*predicted, *observed, 0.01))
    axes.plot([0, top], [0, top], color=GREY, linewidth=1.0, linestyle=":")
    axes.plot(predicted, observed, "o-", color=colour(number), markersize=4, linewidth=1.2)
    axes.set(xlabel="predicted probability", ylabel="share clicked", title=plain(model["name"]))
    axes.set(xlim=(0, top), ylim=(0, top))
    return svg(figure, f"Calibration curve of {model['name']}")


@mpl.rc_context(STYLE)
def draw_histogram(model: dict[str, Any]) -> Markup:
    """Scores on a log-odds axis, whose ticks are probabilities."""
    figure, axes = canvas(3.6, 2.7)
    found = model["histogram"]
    edges = found["log_odds_edges"]
    for name, label, shade in (
        ("not_clicked", "not clicked", NOT_CLICKED),
        ("clicked", "clicked", CLICKED),
    ):
        axes.stairs(found[name], edges, fill=True, alpha=0.35, color=shade)
        axes.stairs(found[name], edges, color=shade, linewidth=1.2, label=label)
    ticks = [edges[round(i * (len(edges) - 1) / 4)] for i in range(5)]
    axes.set_xticks(ticks, [f"{1 / (1 + math.exp(-tick)):.2g}" for tick in ticks])
    axes.set(xlabel="probability", ylabel="share", title=plain(model["name"]))
    axes.margins(x=0)
    axes.legend(loc="best")
    return svg(figure, f"Scores of {model['name']}, clicked and not clicked")


@mpl.rc_context(STYLE)
def draw_losses(model: dict[str, Any], number: int) -> Markup:
    figure, axes = canvas(3.6, 2.7)
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "validation", "o--")):
        points = [(line["current_steps"], line[key]) for line in model["log"] if key in line]
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, style, color=colour(number), markersize=4, label=label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set(xlabel="step", ylabel="loss", title=plain(model["name"]))
    axes.legend(loc="best")
    return svg(figure, f"Loss while training {model['name']}")


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def plain(text: str) -> str:
    """Text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def svg(figure: Figure, title: str) -> Markup:
    """An <svg> element that takes its container's width; `title` is read to those who can't see."""
    content = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):  # ids that repeat, and differ by picture
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    # Matplotlib escapes the texts that it writes; title is put in by Markup, which escapes too.
    head = Markup('<svg role="img" aria-label="{}"').format(title)
    return head + Markup(text.removeprefix("<svg"))
