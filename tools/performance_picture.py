"""The picture at the top of docs/performance.md, drawn from the table below it.

`python -m tools.performance_picture docs/pictures/how-fast.png` writes it.
"""

import sys
from pathlib import Path
from typing import Any

from tools.openapi import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
MARK = "<!-- how fast -->\n"
CPU = "two CPU cores"
COLOURS = {"H100, FP8, random weights": "#c9803a"}
USUAL_COLOUR = "#0f6b5c"
NOT_MEASURED = "–"
TITLES = {
    True: "Two CPU cores\nSmolLM2-135M-Instruct, tuned on clicks",
    False: "One H100\nQwen3-8B's shapes, random weights",
}

Figures = dict[str, dict[str, float]]
"""Machine → what was asked, such as `/rank of 50` → figure; what was not measured is absent."""


def read(document: str) -> dict[str, Figures]:
    """Unit, such as `stories a second` → its figures. ValueError without the mark."""
    _, found, rest = document.partition(MARK)
    if not found:
        raise ValueError(f"the line {MARK!r} is missing")
    lines = [row.strip("| ").split(" | ") for row in rest.split("\n\n")[0].splitlines()]
    machines, rows = lines[0], lines[2:]
    units: dict[str, Figures] = {}
    for name, *cells in rows:
        unit, _, asked = name.partition(": ")
        for machine, cell in zip(machines, cells, strict=True):
            if cell != NOT_MEASURED:
                figures = units.setdefault(unit, {}).setdefault(machine, {})
                figures[asked] = float(cell.replace(",", ""))
    return units


def draw(units: dict[str, Figures], file: Path) -> None:
    """A row for each unit; on the left the CPU, on the right the GPU."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    heights = [max(map(len, machines.values())) for machines in units.values()]
    figure, panels = plt.subplots(
        len(units), 2, figsize=(10, 5.6), height_ratios=heights, layout="constrained"
    )
    for row, (unit, machines) in zip(panels, units.items(), strict=True):
        for panel, on_cpu in zip(row, TITLES, strict=True):
            shown = {name: found for name, found in machines.items() if (name == CPU) == on_cpu}
            draw_bars(panel, shown)
            panel.set_xlabel(unit)
    for panel, title in zip(panels[0], TITLES.values(), strict=True):
        panel.set_title(title, loc="left", fontsize=10, fontweight="bold")
    panels[0][1].legend(loc="upper right", frameon=False)
    figure.savefig(file, dpi=110)


def draw_bars(panel: Any, machines: Figures) -> None:
    """A group of bars for each thing asked, the first on top, with its figures."""
    asked = [*dict.fromkeys(name for figures in machines.values() for name in figures)]
    height = 0.8 / len(machines)
    for number, (machine, figures) in enumerate(machines.items()):
        places = [asked.index(name) + (number + 0.5) * height - 0.4 for name in figures]
        colour = COLOURS.get(machine, USUAL_COLOUR)
        label = machine.split(", ")[1] if ", " in machine else None
        bars = panel.barh(places, figures.values(), height * 0.9, color=colour, label=label)
        panel.bar_label(bars, [f"{value:,.4g}" for value in figures.values()], padding=3)
    panel.set_yticks(range(len(asked)), asked, fontsize=9)
    panel.invert_yaxis()
    panel.margins(x=0.18)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(axis="x", labelbottom=False, bottom=False)


if __name__ == "__main__":
    draw(read(DOCUMENT.read_text(encoding="utf-8")), Path(sys.argv[1]))
    print(f"wrote {sys.argv[1]}")
