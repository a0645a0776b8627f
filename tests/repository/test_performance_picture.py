"""The picture of docs/performance.md shows what was measured."""

import re
from pathlib import Path

import pytest

from tests.support.models import ROOT
from tools.performance_picture import CPU, DOCUMENT, MARK, draw, read

TEXT = DOCUMENT.read_text(encoding="utf-8")
UNITS = read(TEXT)


def test_the_table_is_read_by_unit_machine_and_request() -> None:
    full_load = UNITS["stories a second at full load"]
    assert full_load[CPU]["/rank of 50"] == 49.2
    assert full_load["H100, FP8, random weights"]["/rank of 50"] == 2352
    response = UNITS["response time in ms"]
    assert response[CPU] == {
        "/predict, 6 a second (median)": 225,
        "/rank of 100, idle (median)": 2081,
    }
    with pytest.raises(ValueError, match="missing"):
        read("no mark")


def test_each_figure_stands_in_a_measurement_too() -> None:
    """Below the table, or in the load test that the page links to."""
    measured = TEXT.partition(MARK)[2].partition("\n\n")[2]
    measured += (ROOT / "docs" / "operations" / "overload.md").read_text(encoding="utf-8")
    known = {
        float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", measured)
    }
    for machines in UNITS.values():
        for figures in machines.values():
            assert set(figures.values()) <= known


def test_each_figure_is_drawn(tmp_path: Path) -> None:
    """As text of an SVG picture."""
    import matplotlib as mpl

    file = tmp_path / "how-fast.svg"
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(UNITS, file)
    drawn = file.read_text(encoding="utf-8")
    for machines in UNITS.values():
        for figures in machines.values():
            for asked, value in figures.items():
                assert f">{asked}</text>" in drawn
                assert f">{value:,.4g}</text>" in drawn
