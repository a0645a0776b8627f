"""Comparisons of the HTTP service on the fake engine, by real Locust processes."""

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from app.engine.base import LabelScore
from app.engine.fake import FakeEngine
from app.errors import EngineUnavailable
from app.main import create_app
from app.scoring.prompt import Prompt
from app.settings import Settings
from loadtests.compare.results import Run, Sample, find_missed, measure, read_samples
from tests.support.models import ROOT
from tests.support.servers import serving

NAME = "smollm2-135m-instruct"


class OneAtATime(FakeEngine):
    def __init__(self, latency_seconds: float) -> None:
        super().__init__(latency_seconds)
        self.turn = asyncio.Lock()

    async def score(self, *given: Any) -> list[LabelScore]:
        async with self.turn:
            return await super().score(*given)


class Faulty(FakeEngine):
    """Refuses every third request and fails at every third."""

    calls = itertools.count()

    async def score(self, prompts: Sequence[Prompt], *given: Any) -> list[LabelScore]:
        match next(self.calls) % 3:
            case 1:
                raise EngineUnavailable("busy")
            case 2:
                raise RuntimeError("a fault")
        return await super().score(prompts, *given)


class Stalling(FakeEngine):
    """Once, the whole service stands still."""

    calls = itertools.count()

    async def score(self, *given: Any) -> list[LabelScore]:
        if next(self.calls) == 15:
            time.sleep(1.5)  # noqa: ASYNC251
        return await super().score(*given)


class Headers:
    """ASGI middleware that keeps the Authorization headers."""

    def __init__(self, app: Any, seen: set[bytes]) -> None:
        self.app, self.seen = app, seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.seen.add(dict(scope["headers"]).get(b"authorization", b""))
        await self.app(scope, receive, send)


async def start(module: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def compare(out: Path, *arguments: str) -> tuple[int | None, str, str]:
    process = await start("loadtests.compare", f"--out={out}", "--warmup=0", *arguments)
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


def figures(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "compare.json").read_text())["variants"]
    return found


async def test_variants_take_turns_and_are_written(settings: Settings, tmp_path: Path) -> None:
    app, seen = create_app(settings, FakeEngine(0.01)), set[bytes]()
    app.add_middleware(Headers, seen=seen)
    async with serving(app) as url:
        code, printed, errors = await compare(
            tmp_path,
            *(f"base={url}", f"tuned={url}#{NAME}", "--kinds=rank,predict", "--api-key=secret"),
            *("--rate=40", "--seconds=1", "--rounds=2", "--objective=error_share=0"),
            "--objective=rate_share=0.5",  # the default is for longer turns
        )
    assert (code, errors) == (0, "")
    turns = [line.split(":")[0] for line in printed.splitlines() if line.startswith("round")]
    assert turns == ["round 1, base", "round 1, tuned", "round 2, base", "round 2, tuned"]
    table = printed.split("\n\n")[2].splitlines()
    assert [line.split()[0] for line in table] == ["variant", "base", "tuned"]
    found = figures(tmp_path)
    for one in found.values():
        assert (one["requests"], one["error_share"]) == (80, 0)
        assert 10 < one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"]
        assert len(one["rounds"]) == 2
    assert found["base"]["p50_ms_ratio"] == 1
    # Both are asked the same.
    assert found["base"]["stories_per_s"] == pytest.approx(found["tuned"]["stories_per_s"], rel=0.1)
    assert ElementTree.parse(tmp_path / "compare.svg").getroot().tag.endswith("svg")
    assert seen == {b"Bearer secret"}


async def test_a_rate_out_of_reach_fails(settings: Settings, tmp_path: Path) -> None:
    app = create_app(settings, OneAtATime(0.04))  # 25 requests a second at most
    async with serving(app) as url:
        load = (f"slow={url}", "--rate=50", "--seconds=2", "--rounds=1", "--kinds=predict")
        code, _, errors = await compare(tmp_path, *load)
    assert code == 1
    assert "missed: slow: rate_share is 0." in errors
    found = figures(tmp_path)["slow"]
    assert found["answers_per_s"] < 25
    assert found["rate_share"] < 0.7
    assert found["error_share"] == 0
    assert found["p99_ms"] > 1500  # the last waited for all before them


async def test_missed_objectives_are_named_and_refusals_are_no_errors(
    settings: Settings, tmp_path: Path
) -> None:
    app = create_app(settings, Faulty())
    async with serving(app) as url:
        code, _, errors = await compare(
            tmp_path,
            *(f"bad={url}", "--users=2", "--seconds=1", "--rounds=1"),
            *("--objective=error_share=0", "--objective=bad:p50_ms=0.5"),
            "--objective=refusal_share=0.5",
        )
    assert code == 1
    found = figures(tmp_path)["bad"]
    assert found["refusal_share"] == pytest.approx(1 / 3, abs=0.1)
    assert found["error_share"] == pytest.approx(1 / 3, abs=0.1)
    missed = [line.split(" is ")[0] for line in errors.splitlines()]
    assert missed == ["missed: bad: error_share", "missed: bad: p50_ms"]
    texts = list(found["errors"])
    assert len(texts) == 2  # the requests' ids don't tell equal ones apart
    assert "refused (503)" in texts
    assert any(text.startswith("500: ") for text in texts)


async def test_who_comes_while_the_service_stands_still_is_counted(
    settings: Settings, tmp_path: Path
) -> None:
    """All due in 1.5 of 2 seconds. In a closed load only the few under way would notice."""
    async with serving(create_app(settings, Stalling())) as url:
        load = (f"a={url}", "--rate=30", "--seconds=2", "--rounds=1", "--kinds=predict")
        await compare(tmp_path, *load)
    found = figures(tmp_path)["a"]
    assert (found["requests"], found["error_share"]) == (60, 0)
    assert found["p50_ms"] > 300
    assert found["p95_ms"] > 1000


async def test_time_counts_from_when_a_request_was_due(settings: Settings, tmp_path: Path) -> None:
    """The sender itself is stopped for a second; the service is quick."""
    app, file = create_app(settings, FakeEngine()), tmp_path / "samples"
    async with serving(app) as url:
        process = await start(
            "locust",
            *("-f", "loadtests/locustfile.py", "--headless", "--host", url, "--rate", "30"),
            *("--run-time", "3", "--samples", str(file), "PredictUser"),
        )
        while not file.exists():
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.7)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1)
        process.send_signal(signal.SIGCONT)
        await process.communicate()
    assert process.returncode == 0
    samples = read_samples(file)
    assert len(samples) == 90
    assert sum(sample.done - sample.due > 0.3 for sample in samples) >= 12
    found = measure([Run(3, 90, samples)])
    assert found["p95_ms"] > 600
    assert found["sent_late_p99_ms"] > 600


async def test_a_service_that_answers_nothing_is_said(tmp_path: Path) -> None:
    code, _, errors = await compare(tmp_path, "a=http://127.0.0.1:9", "--users=1", "--seconds=1")
    assert code == 2
    assert "a at http://127.0.0.1:9 answered nothing: no answer" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=http://x"], "one of the arguments --rate --users is required"),
        (["http://x", "--users=1"], "is not NAME=URL#MODEL"),
        (["a=http://x", "--users=1", "--kinds=write"], "no write among predict, rank, chat"),
        (["a=http://x", "--users=1", "--objective=p51_ms=3"], "no figure 'p51_ms'"),
        (["a=http://x", "--users=1", "--objective=b:p50_ms=3"], "no variant b"),
        (["a=http://x", "a=http://y", "--users=1"], "two variants have the same name"),
        (["a=no/folder", "--users=1"], "no folder no/folder"),
        (["a=http://x", "--users=1", "--mind=tests"], "tests is no MIND folder: news.tsv: "),
    ],
)
async def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, _, errors = await compare(tmp_path, *arguments)
    assert code == 2
    assert message in errors.splitlines()[-1]


def steady(rate: float, capacity: float, seconds: float) -> Run:
    """Evenly spaced requests, served one after the other."""
    samples, free = [], 0.0
    for number in range(round(rate * seconds)):
        due = number / rate
        free = max(free, due) + 1 / capacity
        samples.append(Sample(1, due, due, free, 200, ""))
    return Run(seconds, len(samples), samples)


@pytest.mark.parametrize("seconds", [10, 60])
def test_rate_share_shows_a_queue_that_grows(seconds: float) -> None:
    assert measure([steady(50, 51, seconds)])["rate_share"] == 1
    assert measure([steady(50, 48, seconds)])["rate_share"] == pytest.approx(0.97, abs=0.01)
    assert measure([steady(50, 25, seconds)])["rate_share"] < 0.7


def test_what_is_not_sent_is_an_error_and_no_number_meets_no_objective() -> None:
    run = Run(1, 4, [Sample(1, 0, 0, 0.5, 200, ""), Sample(1, 0, 0, 0.1, 503, "refused (503)")])
    found = measure([run])
    assert (found["requests"], found["error_share"], found["refusal_share"]) == (4, 0.5, 0.25)
    assert found["p99_ms"] == 500
    none = measure([Run(1, 0, [])])
    assert find_missed({("", "p99_ms"): 1e9}, {"a": none}) == [
        "a: p99_ms is nan, not at most 1e+09"
    ]
