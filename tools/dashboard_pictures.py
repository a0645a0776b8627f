"""Pictures of the dashboards in deploy/monitoring, from what a Prometheus server has stored.

  python -m tools.dashboard_pictures http://127.0.0.1:9090 docs/pictures --minutes 15

Each panel's own queries are asked as Grafana would ask them, with all instances and models. Titles,
places, legends, units and thresholds are the dashboard's. The drawing is ours and not Grafana's.
Panels whose queries returned nothing are listed.
"""

import argparse
import io
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tools.openapi import ROOT

DASHBOARDS = sorted((ROOT / "deploy" / "monitoring" / "grafana" / "dashboards").glob("*.json"))
SCRAPE_S = 5
"""`timeInterval` of Grafana's data source."""
POINTS = 200
"""The most values of a series that are asked for."""

COLUMN, ROW, DPI = 0.56, 0.29, 100
"""Of the dashboards' grid, in inches, and the pixels of one."""
LEFT, RIGHT, TOP, BOTTOM, LEGEND_LINE = 0.72, 0.26, 0.42, 0.34, 0.16
"""Inches of a panel around its axes."""
LEGEND_CHARS, LEGEND_LINES = 84, 3
COLORS = 128
STAT_COLORS = {"green": "#3a8f4d", "red": "#c9372c"}

Panel = dict[str, Any]


class Series(NamedTuple):
    """values: one for each time of the span, NaN where there is none."""

    name: str
    values: list[float]


@dataclass(frozen=True)
class Span:
    """The time that is drawn, in seconds since 1970."""

    start: float
    end: float

    @property
    def step(self) -> float:
        return max(SCRAPE_S, (self.end - self.start) / POINTS)

    @property
    def times(self) -> list[float]:
        count = math.floor((self.end - self.start) / self.step) + 1
        return [self.start + number * self.step for number in range(count)]

    @property
    def rate_interval(self) -> str:
        """Grafana's `$__rate_interval`."""
        return f"{math.ceil(max(self.step + SCRAPE_S, 4 * SCRAPE_S))}s"


def ask(client: httpx.Client, panel: Panel, variables: dict[str, str], span: Span) -> list[Series]:
    """The panel's series. ValueError if Prometheus refuses a query, with its reason."""
    found = []
    filled = variables | {"__rate_interval": span.rate_interval}
    for target in panel["targets"]:
        query = re.sub(r"\$(\w+)", lambda match: filled[match[1]], target["expr"])
        if target.get("instant"):
            path, when = "query", {"time": span.times[-1]}
        else:
            path, when = "query_range", {"start": span.start, "end": span.end, "step": span.step}
        answer = client.get(f"/api/v1/{path}", params={"query": query, **when}).json()
        if answer["status"] != "success":
            raise ValueError(f"{panel['title']}: {answer['error']}")
        for result in answer["data"]["result"]:
            name = legend(target["legendFormat"], result["metric"])
            samples = [result["value"]] if target.get("instant") else result["values"]
            found.append(Series(name, on_grid(samples, span)))
    return found


def legend(text: str, labels: dict[str, str]) -> str:
    """A label that a series lacks is empty, as in Grafana."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), text).strip()


def on_grid(samples: Iterable[tuple[float, str]], span: Span) -> list[float]:
    values = [math.nan] * len(span.times)
    for moment, value in samples:
        values[round((moment - span.start) / span.step)] = float(value)
    return values


def variables_of(dashboard: dict[str, Any]) -> dict[str, str]:
    """Each with its value for *All*."""
    return {one["name"]: one["allValue"] for one in dashboard["templating"]["list"]}


def has_data(series: Sequence[Series]) -> bool:
    return any(not math.isnan(value) for one in series for value in one.values)


def draw(title: str, panels: Sequence[tuple[Panel, list[Series]]], span: Span) -> Any:
    """The dashboard as a figure of matplotlib."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in panels)
    width, height = 24 * COLUMN, (bottom + 2) * ROW
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="#f4f5f5")
    figure.text(0.1 / width, 1 - ROW / height, title, fontsize=12, fontweight="bold", va="center")
    for panel, series in panels:
        place = panel["gridPos"]
        left, low = place["x"] * COLUMN, height - (place["y"] + place["h"] + 2) * ROW
        box = (left, low, place["w"] * COLUMN, place["h"] * ROW)
        draw_panel(figure, box, panel, series, span)
    return figure


def draw_panel(
    figure: Any,
    box: tuple[float, float, float, float],
    panel: Panel,
    series: list[Series],
    span: Span,
) -> None:
    """box: left, bottom, width and height in inches."""
    from matplotlib.patches import Rectangle

    left, low, width, height = box
    across, up = figure.get_size_inches()

    def place(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return (left + x) / across, (low + y) / up, w / across, h / up

    x, y, w, h = place(0.04, 0.04, width - 0.08, height - 0.08)
    card = Rectangle(
        (x, y), w, h, transform=figure.transFigure, fc="white", ec="#d8dadd", zorder=-1
    )
    figure.add_artist(card)
    x, y, *_ = place(0.14, height - 0.2, 0, 0)
    figure.text(x, y, panel["title"], fontsize=8.5, fontweight="bold", va="center")
    lines, columns = legend_shape([one.name for one in series])
    under = BOTTOM + (lines * LEGEND_LINE if panel["type"] == "timeseries" else 0)
    axes = figure.add_axes(
        place(LEFT, under + 0.1, width - LEFT - RIGHT, height - under - 0.1 - TOP)
    )
    if not has_data(series):
        axes.text(0.5, 0.5, "No data", ha="center", va="center", color="#888888")
        axes.set_axis_off()
    elif panel["type"] == "stat":
        draw_stat(axes, panel, series)
    else:
        minutes = [(moment - span.start) / 60 for moment in span.times]
        axes.set_xlim(0, minutes[-1])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} min")
        axes.tick_params(labelsize=7, length=0, pad=4)
        axes.spines[["top", "right", "left"]].set_visible(False)
        if panel["type"] == "heatmap":
            draw_heatmap(axes, series, minutes)
        else:
            draw_lines(axes, panel, series, minutes)
            x, y, *_ = place(0.1, 0.06, 0, 0)
            add_legend(axes, (x, y), lines, columns)


def draw_lines(axes: Any, panel: Panel, series: Sequence[Series], minutes: Sequence[float]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    for one in series:
        axes.plot(minutes, one.values, label=one.name, lw=1.1, marker=".", ms=1.5)
    axes.grid(axis="y", color="#e6e7e9", lw=0.6)
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: UNITS[defaults["unit"]](value))
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
        if all(not value > 0 for one in series for value in one.values):
            axes.set_ylim(top=1)


def legend_shape(names: Sequence[str]) -> tuple[int, int]:
    """Lines and columns."""
    longest = max(map(len, names), default=0)
    columns = max(1, min(len(names), LEGEND_CHARS // (longest + 6)))
    return min(LEGEND_LINES, math.ceil(len(names) / columns)), columns


def add_legend(axes: Any, corner: tuple[float, float], lines: int, columns: int) -> None:
    """The rest of a legend that is too long is counted, where Grafana lets it be scrolled."""
    handles, names = axes.get_legend_handles_labels()
    room = lines * columns
    if len(names) > room:
        names[room - 1 :] = [f"… and {len(names) - room + 1} more"]
        handles[room - 1 :] = [axes.plot([], [], alpha=0)[0]]
    axes.legend(
        handles,
        names,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=corner,
        bbox_transform=axes.figure.transFigure,
        fontsize=6.5,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.2,
        labelspacing=0.25,
        borderaxespad=0,
    )


def draw_stat(axes: Any, panel: Panel, series: Sequence[Series]) -> None:
    """Each series' name and last value, in the colour of the last threshold that it reaches."""
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    steps = defaults.get("thresholds", {}).get("steps", [{"color": "green", "value": None}])
    axes.set_axis_off()
    shown = [(one.name, last) for one in series if (last := last_of(one.values)) is not None]
    for number, (name, value) in enumerate(shown):
        reached = [step for step in steps if step["value"] is None or value >= step["value"]]
        color = STAT_COLORS[reached[-1]["color"]]
        y = 1 - (number + 0.5) / len(shown)
        axes.text(-0.15, y, name, fontsize=8, va="center", ha="left", transform=axes.transAxes)
        axes.text(1, y, f"{value:.4g}", fontsize=15, va="center", ha="right", color=color)


def last_of(values: Sequence[float]) -> float | None:
    return next((value for value in reversed(values) if not math.isnan(value)), None)


def draw_heatmap(axes: Any, series: Sequence[Series], minutes: Sequence[float]) -> None:
    bounds, counts = buckets(series)
    rows = range(len(bounds))
    axes.pcolormesh(minutes, rows, counts, cmap="Blues", vmin=0, shading="nearest")
    axes.set_yticks(rows, [f"≤ {bound}" for bound in bounds], fontsize=6)


def buckets(series: Sequence[Series]) -> tuple[list[str], list[list[float]]]:
    """Bounds, and how many fell between each and the one below; Prometheus's buckets hold both."""
    ordered = sorted(series, key=lambda one: float(one.name))
    rows = [[0.0] * len(ordered[0].values), *(one.values for one in ordered)]
    counts = [[max(0, b - a) for a, b in zip(*pair, strict=True)] for pair in pairwise(rows)]
    return [one.name for one in ordered], counts


def short(value: float) -> str:
    return f"{value / 1000:.3g}k" if abs(value) >= 1000 else f"{value:.3g}"


def seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{value:.3g} s"


UNITS: dict[str, Callable[[float], str]] = {
    "short": short,
    "reqps": lambda value: f"{value:.3g} req/s",
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "s": seconds,
    "bytes": lambda value: f"{value / 1e6:,.0f} MB",
}
"""Grafana's name of a unit → its text."""


def save(figure: Any, file: Path) -> None:
    """In few colours, which takes a third of the bytes. The octree keeps those of thin lines."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    picture = Image.open(drawn).convert("RGB")
    few = picture.quantize(COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prometheus", help="its URL")
    parser.add_argument("folder", type=Path, help="gets dashboard-NAME.png")
    parser.add_argument("--minutes", type=float, default=60, help="default: %(default)s")
    parser.add_argument("--until", type=float, help="the end, in seconds since 1970 (default: now)")
    options = parser.parse_args()
    end = options.until or time.time()
    span = Span(end - options.minutes * 60, end)
    with httpx.Client(base_url=options.prometheus, timeout=60) as client:
        for file in DASHBOARDS:
            dashboard = json.loads(file.read_text(encoding="utf-8"))
            variables = variables_of(dashboard)
            panels = [(panel, ask(client, panel, variables, span)) for panel in dashboard["panels"]]
            picture = options.folder / f"dashboard-{file.stem}.png"
            save(draw(dashboard["title"], panels, span), picture)
            print(f"wrote {picture}")
            for panel, series in panels:
                if not has_data(series):
                    print(f"    no data: {panel['title']}")


if __name__ == "__main__":
    main()
