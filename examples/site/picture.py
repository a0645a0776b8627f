"""The week as one picture: click-through and AUC by day, a line for each arm."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from examples.site.figures import Summary

PANELS = {
    "expected": "Expected click-through (dots: as clicked)",
    "auc": "AUC of the served order",
}
DRAWN = {"expected": "click_through"}
COLOURS = ("#777777", "#0072b2", "#d55e00", "#009e73", "#cc79a7")


def draw(found: Sequence[Summary], file: Path, title: str) -> None:
    """Write a PNG. Bands are 95 % intervals."""
    figure, panels = plt.subplots(1, len(PANELS), figsize=(11, 4.2), layout="constrained")
    for axes, (name, label) in zip(panels, PANELS.items(), strict=True):
        draw_panel(axes, found, name)
        axes.set(title=label, xlabel="day")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=9)
    figure.suptitle(title)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def draw_panel(axes: Axes, found: Sequence[Summary], name: str) -> None:
    for number, arm in enumerate(dict.fromkeys(one.arm for one in found)):
        mine = [one for one in found if one.arm == arm and isinstance(one.day, int)]
        days = [int(one.day) for one in mine]
        values = [one.figures[name] for one in mine]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(days, [one.value for one in values], color=colour, label=arm, marker="_")
        low, high = [one.low for one in values], [one.high for one in values]
        axes.fill_between(days, low, high, color=colour, alpha=0.15, linewidth=0)
        if drawn := DRAWN.get(name):
            clicked = [one.figures[drawn].value for one in mine]
            axes.scatter(days, clicked, color=colour, s=12, alpha=0.7)
        axes.set_xticks(days)
