"""What is kept of answers and feedback, for how long, and by many at once."""

import asyncio
import json
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from app.errors import FeedbackUnavailable, NotFound, StartupError
from app.feedback import tables
from app.feedback.store import FeedbackStore
from tests.support.feedback_calls import (
    DAY,
    click,
    figures,
    rank,
    rows,
    running,
    service,
)
from tests.support.waiting import until


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async with service(tmp_path) as client:
        first = await rank(client, ["a", "b"])
        second = await rank(client, ["c", "d"])
        await click(client, first["id"], 1)
    async with service(tmp_path) as client:
        await click(client, second["id"], 0)
        found = await figures(client)
    assert (found["answers"], found["clicks"], found["impressions"]) == (2, 2, 4)


async def test_the_oldest_answers_go_when_there_are_too_many(tmp_path: Path) -> None:
    async with service(tmp_path, feedback_answers=10) as client:
        ids = [(await rank(client, ["a", "b"]))["id"] for _ in range(25)]
        assert (await click(client, ids[24])).status_code == 200
        assert [(await click(client, one)).status_code for one in ids] == [404] * 15 + [200] * 10
        assert (await figures(client))["answers"] == 10
    file = tmp_path / "feedback.sqlite"
    assert rows(file, "SELECT count(*), min(number), max(number) FROM answers") == [(10, 16, 25)]
    assert rows(file, "SELECT count(*) FROM feedback") == [(10,)]


async def test_old_answers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    clock = time.time()
    monkeypatch.setattr("app.feedback.store.time", SimpleNamespace(time=lambda: clock))
    with running(file, days=2) as store:
        store.keep("old", "m", None, [0.5])
        await store.record("old", 0, True)
        clock += 1.5 * DAY
        store.keep("young", "m", None, [0.5])
        await store.record("young", 0, False)
        await store.record("old", 0, True)
        assert [one.answers for one in await store.report()] == [2]
        assert [one.clicks for one in await store.report(days=1)] == [0]
        clock += DAY
        with pytest.raises(NotFound):  # even before it is deleted
            await store.record("old", 0, True)
        await store.record("young", 0, True)
    assert rows(file, "SELECT id FROM answers") == [("young",)]
    assert rows(file, "SELECT count(*) FROM feedback") == [(1,)]


async def test_old_answers_go_without_traffic_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.feedback.store.IDLE_TRIM_S", 0.05)
    with running(tmp_path / "file", days=0.3 / DAY) as store:
        store.keep("old", "m", None, [0.5])
        await store.record("old", 0, True)
        await until(lambda: not rows(tmp_path / "file", "SELECT * FROM answers"))


async def test_many_old_answers_go_in_small_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_TRIMMED", 100)
    file = tmp_path / "file"
    with running(file) as store:
        for number in range(950):
            store.keep(str(number), "m", None, [0.5])
    left = []
    with running(file, answers=5) as store:
        for _ in range(12):
            with pytest.raises(NotFound):
                await store.record("none", 0, True)
            left += rows(file, "SELECT count(*) FROM answers")
    assert [one for (one,) in left] == [*range(850, 0, -100), 5, 5, 5]


async def test_concurrent_answers_and_clicks(client: httpx.AsyncClient) -> None:
    async def one(number: int) -> None:
        answer = await rank(client, ["a", "b", "c"])
        order = [story["index"] for story in answer["results"]]
        responses = await asyncio.gather(
            *(click(client, answer["id"], order[place], place == number % 3) for place in range(3))
        )
        assert {response.status_code for response in responses} == {200}

    await asyncio.gather(*(one(number) for number in range(60)))
    found = await figures(client)
    assert (found["answers"], found["impressions"], found["clicks"]) == (60, 180, 60)
    assert [at["clicks"] for at in found["by_position"][:4]] == [20, 20, 20, 0]
    assert found["auc"]["value"] == pytest.approx(0.5)


async def test_two_services_share_a_file(tmp_path: Path) -> None:
    async with service(tmp_path) as one, service(tmp_path) as other:

        async def ask_and_click(client: httpx.AsyncClient, elsewhere: httpx.AsyncClient) -> None:
            answer = await rank(client, ["a", "b"])
            assert (await click(client, answer["id"], 0)).status_code == 200  # so it is committed
            assert (await click(elsewhere, answer["id"], 1)).status_code == 200

        pairs = [(one, other), (other, one)] * 30
        await asyncio.gather(*(ask_and_click(*pair) for pair in pairs))
        assert await figures(one) == await figures(other)
        assert (await figures(one))["clicks"] == 120


async def test_services_that_start_at_once(tmp_path: Path) -> None:
    stores = [FeedbackStore(tmp_path / "file", 30, 1000) for _ in range(8)]
    await asyncio.gather(*(asyncio.to_thread(store.start) for store in stores))
    for number, store in enumerate(stores):
        store.keep(str(number), "m", None, [0.5])
    for store in stores:
        store.stop()
    assert rows(tmp_path / "file", "SELECT count(*) FROM answers") == [(8,)]


async def test_a_start_waits_for_one_that_is_making_the_file(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "file", isolation_level=None, check_same_thread=False)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(0.2, other.execute, "COMMIT")
        store = FeedbackStore(tmp_path / "file", 30, 1000)
        await asyncio.to_thread(store.start)
        store.stop()
        other.execute("BEGIN IMMEDIATE")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tables, "LOCK_TIMEOUT_S", 0.1)
            with pytest.raises(StartupError, match="locked"):
                FeedbackStore(tmp_path / "file", 30, 1000).start()


async def test_starting_and_stopping_twice(tmp_path: Path) -> None:
    with running(tmp_path / "file") as store, running(tmp_path / "other"):
        store.start()
        store.keep("a", "m", None, [0.5])
        assert await store.record("a", 0, True) == "m"
        store.stop()
        with pytest.raises(FeedbackUnavailable):
            await store.record("a", 0, True)
        store.start()
        assert await store.record("a", 0, True) == "m"


def test_keeping_an_answer_is_quick(tmp_path: Path) -> None:
    """Quicker than writing the answer as JSON, which each request costs anyway."""
    probabilities, order = [place / 300 for place in range(300)], list(range(299, -1, -1))
    with running(tmp_path / "file", answers=10) as store:
        times, others = [], []
        for number in range(2000):
            started = time.thread_time_ns()
            store.keep(f"{number:032x}", "m", "a", probabilities, order)
            kept = time.thread_time_ns()
            json.dumps(probabilities)
            times.append(kept - started)
            others.append(time.thread_time_ns() - kept)
    assert statistics.median(times) < statistics.median(others)
