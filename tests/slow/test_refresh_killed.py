"""refresh killed with SIGKILL while each of its steps is under way, on a service with the real
engine, ends like one that nobody has killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.models import ROOT
from tests.support.refreshed_site import NAME, adapters, now, tell, weights, write_plan
from tests.support.servers import Service, start_service, stopped_at_end
from tests.support.tiny_training import make_tiny
from tests.training.refreshing.test_refresh import STEPS, comparable
from training.refreshing.options import iso
from training.refreshing.record import Record, read_all

LONG = {"prepare", "finetune", "calibrate", "score", "rank", "evaluate"}
INTO_S = 0.5
"""How long one of the LONG steps is under way when it is killed; the others are killed at once."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    base = tmp_path / NAME
    base.mkdir()
    make_tiny(base, heads=2)
    (tmp_path / "adapters").mkdir()
    started = start_service(
        tmp_path / "log",
        model=str(base),
        store=f"sqlite:///{tmp_path / 'site.sqlite'}",
        adapter_root=str(tmp_path / "adapters"),
        max_adapters="3",
    )
    with stopped_at_end(started):
        started.wait_until_ready()
        yield started


def command(folder: Path, out: str, end: float, *more: str) -> list[str]:
    plan = ["refresh", str(folder / "refresh.yaml"), "--out", str(folder / out)]
    return [sys.executable, "-m", "training", *plan, "--at", iso(end), *more]


def run(words: list[str], environment: dict[str, str]) -> None:
    subprocess.run(words, cwd=ROOT, env=environment, check=True)


def kill_during(step: str, words: list[str], environment: dict[str, str]) -> bool:
    """False: the command ended before."""
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as begun:
        assert begun.stderr is not None
        for line in begun.stderr:
            print(line, end="")  # shown where the test fails
            if line.rstrip().endswith(f": {step}"):
                time.sleep(INTO_S if step in LONG else 0)
                begun.send_signal(signal.SIGKILL)
                break
    return begun.returncode == -signal.SIGKILL


def latest(folder: Path) -> Record:
    return list(read_all(folder).values())[-1]


async def test_killed_during_each_step(service: Service, tmp_path: Path) -> None:
    end = float(int(now()))
    environment = {**os.environ, "FRONTPAGE_STORE": f"sqlite:///{tmp_path / 'site.sqlite'}"}
    share = {"share": 0.5, "hours": 1e-6, "undecided": "promote"}
    write_plan(tmp_path, service.url, tmp_path / NAME, experiment=share)
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        await tell(client, end - 60)
        whole = command(tmp_path, "whole", end, "--until", "gate")
        await asyncio.to_thread(run, whole, environment)
        words = command(tmp_path, "killed", end)
        assert await asyncio.to_thread(kill_during, "collect", words, environment)
        for step in STEPS:
            # A quick one may be over although it was killed; then it is not begun again.
            if step in LONG or not latest(tmp_path / "killed").has_done(step):
                assert await asyncio.to_thread(kill_during, step, words, environment), step
        await asyncio.to_thread(run, words, environment)
        mine, other = latest(tmp_path / "killed"), latest(tmp_path / "whole")
        assert mine.decision == "promoted"
        assert [step.name for step in mine.steps] == STEPS
        assert mine.checks[: len(other.checks)] == other.checks
        for file in sorted((tmp_path / "killed" / mine.name / "adapter").iterdir()):
            same = tmp_path / "whole" / other.name / "adapter" / file.name
            assert comparable(file) == comparable(same), file.name
        assert await weights(client) == {mine.name: 1}
        assert await adapters(client) == [mine.name]
        body = {"history": ["football"], "candidates": ["river garden", "election storm"]}
        answer = (await client.post("/rank", json=body)).json()
        assert (answer["model"], answer["ranker"]) == (mine.name, True)
