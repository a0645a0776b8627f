"""loadtests.growth without an engine: what it asks, and its picture."""

import json
from itertools import islice
from pathlib import Path

from loadtests.growth import ADAPTERS, VALUES, Point, as_table, in_turn, plot
from loadtests.traffic import FIXTURE
from loadtests.workload import Workload
from tests.models import SMOLLM2


def test_adapters_take_turns() -> None:
    questions = Workload(SMOLLM2, FIXTURE, 3).questions("turns", 2)
    asked = [json.loads(one.body) for one in islice(in_turn(["a", "b"])(questions), 4)]
    assert [body["model"] for body in asked] == ["a", "b", "a", "b"]
    assert all(len(body["candidates"]) == 2 and len(body["history"]) == 3 for body in asked)


def test_table_and_picture_of_all_points(tmp_path: Path) -> None:
    figures = {"stories_per_s": 40.0, "p50_ms": 9.5, "p95_ms": 12.0, "computed_per_story": 27.2}
    points = [Point(by, value, figures) for by, values in VALUES.items() for value in values]
    table = as_table(points).splitlines()
    assert len(table) == len(points) + 2
    assert f"| {ADAPTERS} | 4 | 40.0 | 9.5 | 12.0 | 27.2 |" == table[-1]
    assert {line.count("|") for line in table} == {7}
    plot(points, 2, tmp_path / "new" / "growth.png")
    assert (tmp_path / "new" / "growth.png").read_bytes().startswith(b"\x89PNG")
