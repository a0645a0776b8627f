"""The measurements of `loadtests.growth`: what is varied, a table and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CANDIDATES, HISTORY, READERS, ADAPTERS = "candidates", "history", "readers at once", "adapters"
SHORTLISTED = "shortlisted candidates"
"""Candidates of which the language model judges only the service's usual shortlist."""
PANELS = (CANDIDATES, HISTORY, READERS, ADAPTERS)
VALUES = {
    CANDIDATES: (1, 5, 10, 25, 50, 100, 200),
    SHORTLISTED: (10, 25, 50, 100, 200, 500, 1000),
    HISTORY: (0, 5, 10, 20, 40),
    READERS: (1, 2, 4, 8, 16),
    ADAPTERS: (0, 1, 2, 4),
}
HELD_VALUES = {CANDIDATES: 50, HISTORY: 20, READERS: 2, ADAPTERS: 0}
"""The value of each quantity while another one is varied."""
COLUMNS = ("stories_per_s", "p50_ms", "p95_ms", "computed_per_story")
AXIS_LABELS = {ADAPTERS: "unmerged adapters in turn", HISTORY: "titles of history"}


@dataclass(frozen=True)
class Point:
    """One measurement, in which the quantity `by` has `value` and the others are held."""

    by: str
    value: int
    figures: dict[str, float]


def as_table(points: Sequence[Point]) -> str:
    """A Markdown table with one row per measurement."""
    lines = [
        "| by | value | stories/s | p50 ms | p95 ms | tokens computed a story |",
        "|---" * 6 + "|",
    ]
    for point in points:
        cells = [f"{point.figures[name]:.1f}" for name in COLUMNS]
        lines.append(f"| {point.by} | {point.value} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(points: Sequence[Point], readers: int, file: Path) -> None:
    """Draw one panel per quantity into a PNG file.

    Candidates and history show the time of a ranking, readers and adapters the stories per second.
    readers: how many there were at once while something else was varied.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for panel, by in zip(panels.flat, PANELS, strict=True):
        draw_panel(panel, by, points)
    held = f"{HELD_VALUES[CANDIDATES]} candidates, {HELD_VALUES[HISTORY]} titles of history"
    figure.suptitle(f"/rank over HTTP; where not varied: {held}, {readers} readers at once")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def draw_panel(panel: "Axes", by: str, points: Sequence[Point]) -> None:
    """Draw one quantity; candidates also with a shortlist."""
    from matplotlib.ticker import MaxNLocator

    if by in (CANDIDATES, HISTORY):
        name, label = "p50_ms", "ms a ranking (median)"
    else:
        name, label = "stories_per_s", "candidates a second"
    lines = {by: ("#0f6b5c", "all judged")}
    if by == CANDIDATES:
        lines[SHORTLISTED] = ("#8a4b12", "shortlist")
    for line, (color, label_of_line) in lines.items():
        drawn = [(one.value, one.figures[name]) for one in points if one.by == line]
        panel.plot(*zip(*drawn, strict=True), marker="o", color=color, label=label_of_line)
    if by == CANDIDATES:
        panel.legend(frameon=False)
    panel.set_xlabel(AXIS_LABELS.get(by, by))
    panel.set_ylabel(label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.margins(y=0.1)
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
