"""loadtests.growth without an engine: what it asks, and its picture."""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from loadtests.growth import command
from loadtests.growth.command import in_turn
from loadtests.growth.options import Options
from loadtests.growth.points import ADAPTERS, CANDIDATES, VALUES, Point, as_table, plot
from loadtests.limit.workload import Workload
from loadtests.services import LoadTestError
from loadtests.traffic import EXAMPLE_MIND
from tests.support.models import SMOLLM2

FIGURES = {"stories_per_s": 40.0, "p50_ms": 9.5, "p95_ms": 12.0, "computed_per_story": 27.2}


def test_adapters_take_turns() -> None:
    questions = Workload(SMOLLM2, EXAMPLE_MIND, 3).questions("turns", 2)
    asked = [json.loads(one.body) for one in islice(in_turn(["a", "b"])(questions), 4)]
    assert [body["model"] for body in asked] == ["a", "b", "a", "b"]
    assert all(len(body["candidates"]) == 2 and len(body["history"]) == 3 for body in asked)


def test_table_and_picture_of_all_points(tmp_path: Path) -> None:
    points = [Point(by, value, FIGURES) for by, values in VALUES.items() for value in values]
    table = as_table(points).splitlines()
    assert len(table) == len(points) + 2
    assert f"| {ADAPTERS} | 4 | 40.0 | 9.5 | 12.0 | 27.2 |" == table[-1]
    assert {line.count("|") for line in table} == {7}
    plot(points, 2, tmp_path / "new" / "growth.png")
    assert (tmp_path / "new" / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_measured_stays_when_the_next_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = Point(CANDIDATES, 1, FIGURES)

    def measure(options: Options) -> Iterator[Point]:
        yield point
        assert json.loads(options.json.read_bytes())["points"] == [vars(point)]
        raise LoadTestError("the second failed")

    monkeypatch.setattr(command, "measure", measure)
    file = tmp_path / "new" / "growth.json"
    monkeypatch.setattr(sys, "argv", ["growth", "--json", str(file), "--commit", "abc"])
    assert command.main() == 2
    assert json.loads(file.read_bytes())["commit"] == "abc"
    shown = capsys.readouterr()
    assert "the second failed" in shown.err
    assert "| candidates | 1 |" in shown.out
