"""What is kept of answers and feedback, for how long, and by many at once."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import FeedbackUnavailable, NotFound
from app.feedback.reports import Reports
from app.store import retention
from app.store.database import Database
from app.store.records import ImpressionEvent
from app.store.retention import Retention, trim
from app.store.store import Store
from app.store.tables import impressions
from tests.support.feedback_calls import DAY, click, figures, rank, service
from tests.support.stores import make_store, rows, running
from tests.support.waiting import until


async def answer_and_click(store: Store, name: str, clicked: bool = True) -> None:
    store.keep(name, "m", None, [0.5])
    assert await store.record(name, 0, clicked) == "m"


def trimmed(url: str, days: float = 30, rows: int = 1000) -> None:
    database = Database(url)
    trim(database, Retention(days, rows))
    database.close()


async def test_of_rows_with_the_same_time_no_more_go_than_are_too_many(store_url: str) -> None:
    with running(store_url) as store:
        now = store.database.now()
        times = [now - 3] + [now - 2] * 12 + [now - 1] * 4
        await store.add_events(
            [ImpressionEvent(f"{n:02}", time, None, ["N1"]) for n, time in enumerate(times)], []
        )
    trimmed(store_url, rows=10)
    kept = [name for (name,) in rows(store_url, "SELECT id FROM impressions ORDER BY id")]
    assert kept == [f"{n:02}" for n in range(7, 17)]


async def test_neither_faults_nor_long_chores_end_the_retention(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.store.TRIM_S", 0.01)
    monkeypatch.setattr("app.store.store.CHORES_S", 0.1)
    passes: list[None] = []

    def endless(stopping: Callable[[], bool]) -> None:
        while not stopping():
            time.sleep(0.01)
        passes.append(None)
        raise ValueError("a fault")

    store = make_store(store_url)
    store.chores.append(endless)
    store.start()
    await until(lambda: len(passes) > 2)
    store.stop()


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async with service(tmp_path) as client:
        first = await rank(client, ["a", "b"])
        second = await rank(client, ["c", "d"])
        await click(client, first["id"], 1)
    async with service(tmp_path) as client:
        await click(client, second["id"], 0)
        found = await figures(client)
    assert (found["answers"], found["clicks"], found["impressions"]) == (2, 2, 4)


async def test_the_oldest_answers_go_when_there_are_too_many(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.store.LATE_S", ())
    with running(store_url) as store:
        for number in range(25):
            await answer_and_click(store, str(number))
        trimmed(store_url, rows=10)
        found = []
        for number in range(25):
            try:
                await store.record(str(number), 0, True)
                found.append(number)
            except NotFound:
                pass
    assert found == [*range(15, 25)]
    assert rows(store_url, "SELECT count(*) FROM impressions") == [(10,)]
    assert rows(store_url, "SELECT count(*) FROM outcomes") == [(10,)]


async def test_old_answers_go(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start, passed = time.time(), 0.0
    monkeypatch.setattr(Database, "now", lambda _: start + passed)
    with running(store_url, days=2) as store:
        reports = Reports(store)
        await answer_and_click(store, "old")
        passed = 1.5 * DAY
        await answer_and_click(store, "young", False)
        await store.record("old", 0, True)
        assert [one.answers for one in (await reports.report()).models] == [2]
        assert [one.clicks for one in (await reports.report(days=1)).models] == [0]
        passed = 2.5 * DAY
        with pytest.raises(NotFound):  # even before it is deleted
            await store.record("old", 0, True)
        await store.record("young", 0, True)
        trimmed(store_url, days=2)
    assert rows(store_url, "SELECT id FROM impressions") == [("young",)]
    assert rows(store_url, "SELECT count(*) FROM outcomes") == [(1,)]


async def test_old_answers_go_without_traffic_too(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.store.TRIM_S", 0.05)
    with running(store_url, days=0.3 / DAY) as store:
        store.keep("old", "m", None, [0.5])
        await until(lambda: rows(store_url, "SELECT count(*) FROM impressions") == [(1,)])
        await until(lambda: rows(store_url, "SELECT count(*) FROM impressions") == [(0,)])


async def test_many_old_answers_go_in_small_steps(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def delete_step(*arguments: Any) -> int:
        steps.append(real(*arguments))
        return steps[-1]

    real = retention.delete_step
    monkeypatch.setattr(retention, "delete_step", delete_step)
    monkeypatch.setattr(retention, "STEP_ROWS", 100)
    with running(store_url) as store:
        for number in range(950):
            store.keep(str(number), "m", None, [0.5])
    database = Database(store_url)
    retention.delete_surplus(database, impressions, 5)
    database.close()
    assert steps == [*[100] * 9, 45]
    assert rows(store_url, "SELECT count(*) FROM impressions") == [(5,)]


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


async def test_two_services_share_a_store(tmp_path: Path, store_url: str) -> None:
    shared = {"store": store_url, "reader_key": "the same for both"}
    async with (
        service(tmp_path / "one", **shared) as one,
        service(tmp_path / "other", **shared) as other,
    ):

        async def ask_and_click(client: httpx.AsyncClient, elsewhere: httpx.AsyncClient) -> None:
            answer = await rank(client, ["a", "b"])
            assert (await click(client, answer["id"], 0)).status_code == 200  # so it is committed
            assert (await click(elsewhere, answer["id"], 1)).status_code == 200

        pairs = [(one, other), (other, one)] * 30
        await asyncio.gather(*(ask_and_click(*pair) for pair in pairs))
        assert await figures(one) == await figures(other)
        assert (await figures(one))["clicks"] == 120


async def test_feedback_finds_an_answer_that_another_instance_has_not_committed_yet(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.writer.LINGER_S", 0.3)
    with running(store_url) as one, running(store_url) as other:
        one.keep("a", "m", None, [0.5])
        assert await other.record("a", 0, True) == "m"


async def test_starting_and_stopping_twice(store_url: str) -> None:
    with running(store_url) as store:
        store.start()
        await answer_and_click(store, "a")
        store.stop()
        with pytest.raises(FeedbackUnavailable):
            await store.record("a", 0, True)
        store.keep("b", "m", None, [0.5])
        store.start()
        assert await store.record("a", 0, True) == "m"


def test_keeping_an_answer_is_quick(tmp_path: Path) -> None:
    """Quicker than writing the answer as JSON, which each request costs anyway."""
    probabilities, order = [place / 300 for place in range(300)], list(range(299, -1, -1))
    store = make_store(f"sqlite:///{tmp_path / 'file'}")
    store.start()
    times, others = [], []
    for number in range(2000):
        started = time.thread_time_ns()
        store.keep(f"{number:032x}", "m", "a", probabilities, order)
        kept = time.thread_time_ns()
        json.dumps(probabilities)
        times.append(kept - started)
        others.append(time.thread_time_ns() - kept)
    store.stop()
    assert statistics.median(times) < statistics.median(others)
