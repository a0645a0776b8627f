"""loadtests.beside without an engine: what it asks, when, and its table."""

import asyncio
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from loadtests import beside
from loadtests.beside import Plan, Times, as_table, measure, middle_and_slow
from loadtests.limit.closed_load import Request
from loadtests.limit.speed import Call
from loadtests.limit.workload import Workload
from loadtests.services import LoadTestError
from loadtests.traffic import EXAMPLE_MIND
from tests.support.models import SMOLLM2


async def test_small_requests_are_asked_alone_and_beside_each_large_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large request takes as long as three small ones."""
    asked: list[tuple[str, str, int]] = []

    async def call(_: Any, url: str, request: Request) -> Call:
        body = json.loads(request.body)
        size = len(body.get("candidates", "x"))
        is_large = "messages" in body or size > 10
        asked.append((url, request.path, size))
        await asyncio.sleep(0.03 if is_large else 0.01)
        return Call(1, 0.0, 0.03 if is_large else 0.01)

    monkeypatch.setattr(beside, "call", call)
    workload = Workload(SMOLLM2, EXAMPLE_MIND, 3)
    times: Times = {}
    kept: list[int] = []

    def keep(found: Times) -> None:
        times.update(found)
        kept.append(len(found["rank 400 uncut"]))

    plan = Plan(["rank 400", "long chat"], ["predict", "rank 10"], rounds=2, pause=0.0)
    await measure("ours", "uncut", workload, plan, keep)
    assert kept == [1, 2]  # after each round, without the one that warms up
    assert {url for url, path, size in asked if path == "/predict" or size == 10} == {"ours"}
    for large in ("rank 400", "long chat"):
        assert len(times[f"{large} uncut"]) == len(times[f"{large} alone"]) == 2
        for small in ("predict", "rank 10"):
            assert len(times[f"{large} beside {small}"]) == 2
            assert len(times[f"{small} beside {large}"]) >= 2
            assert len(times[f"{small} alone, before {large}"]) >= 2
    table = as_table(times, plan).splitlines()
    assert len(table) == 2 + 4 + 2 + 4
    assert {line.count("|") for line in table} == {8}
    assert "| rank 400 alone | rank 400 uncut | 0.03 | 0.03 | 1.00 | 1.00 | 2 |" in table


def test_the_middle_and_the_slow_ones() -> None:
    assert middle_and_slow([2.0]) == (2.0, 2.0)
    assert middle_and_slow([float(number) for number in range(101)]) == (50.0, 95.0)


def test_a_refusal_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(*_: Any) -> None:
        raise LoadTestError("/predict answers 503: overloaded")

    monkeypatch.setattr(beside, "measure", refuse)
    monkeypatch.setattr(beside, "usual_service", lambda *_: nullcontext("url"))
    monkeypatch.setattr(sys, "argv", ["beside", "--out", str(tmp_path), "--json", "none"])
    assert beside.main() == 2
    assert "answers 503" in capsys.readouterr().err
