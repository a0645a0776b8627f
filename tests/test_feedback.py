"""Feedback and experiments over HTTP on the fake engine: what is kept, and what survives."""

import asyncio
import multiprocessing
import os
import resource
import signal
import sqlite3
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from app import click_log, feedback
from app.engine.fake import FakeEngine
from app.errors import NotFound, StartupError
from app.feedback import FeedbackStore, FeedbackUnavailable
from app.main import create_app
from app.settings import Settings
from tests.models import SMOLLM2

Json = dict[str, Any]
MODEL = "smollm2-135m-instruct"
DAY = 86400.0


@asynccontextmanager
async def service(state: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(model=SMOLLM2, state=state, **settings), FakeEngine())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@contextmanager
def running(file: Path, days: float = 30, answers: int = 1000) -> Iterator[FeedbackStore]:
    store = FeedbackStore(file, days, answers)
    store.start()
    try:
        yield store
    finally:
        store.stop()


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"frontpage_feedback_{name}_total", labels) or 0.0


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


async def rank(client: httpx.AsyncClient, titles: list[str], **fields: Any) -> Json:
    body: Json = (await client.post("/rank", json={"candidates": titles, **fields})).json()
    return body


async def click(
    client: httpx.AsyncClient, answer_id: str, index: int = 0, clicked: bool = True
) -> httpx.Response:
    body = {"id": answer_id, "index": index, "clicked": clicked}
    return await client.post("/feedback", json=body)


async def figures(client: httpx.AsyncClient) -> Json:
    """Those of the only model."""
    (found,) = (await client.get("/experiments")).json()["models"]
    assert isinstance(found, dict)
    return found


# What the routes do


async def test_feedback_finds_an_answer_given_just_before(client: httpx.AsyncClient) -> None:
    before = count("", model=MODEL, clicked="true")
    for number in range(50):
        answer = (await client.post("/predict", json={"target": f"t{number}"})).json()
        response = await client.post("/feedback", json={"id": answer["id"], "clicked": True})
        assert response.status_code == 200
        assert response.json() == {"id": answer["id"], "index": 0, "model": MODEL, "clicked": True}
    name = "frontpage_feedback_total"
    assert REGISTRY.get_sample_value(name, {"model": MODEL, "clicked": "true"}) == before + 50


async def test_rank_and_its_figures(client: httpx.AsyncClient) -> None:
    answer = await rank(client, [f"story {number}" for number in range(30)], top_k=12)
    shown = answer["results"]
    await rank(client, ["never", "clicked"])
    await click(client, answer["id"], shown[0]["index"], clicked=False)
    await click(client, answer["id"], shown[2]["index"])
    await click(client, answer["id"], shown[11]["index"])
    found = await figures(client)
    assert (found["model"], found["alias"]) == (MODEL, None)
    assert (found["answers"], found["stories"]) == (2, 14)
    assert (found["answers_with_feedback"], found["impressions"], found["clicks"]) == (1, 12, 2)
    assert [(at["position"], at["impressions"], at["clicks"]) for at in found["by_position"]] == [
        *((str(place), 1, int(place == 3)) for place in range(1, 11)),
        ("11+", 2, 1),
    ]
    # Of the 10 others, 8 are below the click at place 3 and none is below that at place 12.
    assert found["auc"]["value"] == pytest.approx(8 / 20)
    expected = sum(story["probability"] for story in shown)
    assert found["expected_clicks"] == pytest.approx(expected, rel=1e-6)
    assert found["clicks_per_expected"]["value"] == pytest.approx(2 / expected, rel=1e-6)


async def test_only_what_was_shown_can_be_clicked(client: httpx.AsyncClient) -> None:
    answer = await rank(client, ["a", "b", "c"], top_k=1)
    (shown,) = [story["index"] for story in answer["results"]]
    for index in range(4):
        response = await click(client, answer["id"], index)
        assert response.status_code == (200 if index == shown else 422)
        if index != shown:
            assert response.json()["error"]["param"] == "index"


async def test_each_pair_of_a_batch_stands_alone(client: httpx.AsyncClient) -> None:
    pairs = [{"target": title} for title in "abcd"]
    answer = (await client.post("/predict/batch", json={"pairs": pairs})).json()
    await click(client, answer["id"], 3)
    await click(client, answer["id"], 1, clicked=False)
    assert (await click(client, answer["id"], 4)).status_code == 422
    found = await figures(client)
    assert (found["stories"], found["impressions"], found["clicks"]) == (4, 2, 1)
    probabilities = [answer["results"][index]["probability"] for index in (1, 3)]
    assert found["expected_clicks"] == pytest.approx(sum(probabilities), rel=1e-6)
    assert found["auc"] is None
    assert {at["impressions"] for at in found["by_position"]} == {0}


async def test_later_feedback_replaces(client: httpx.AsyncClient) -> None:
    answer = await rank(client, ["a", "b"])
    for clicked in (True, False, True, False):
        assert (await click(client, answer["id"], 1, clicked)).status_code == 200
    found = await figures(client)
    assert (found["impressions"], found["clicks"]) == (2, 0)


async def test_an_id_names_its_newest_answer(client: httpx.AsyncClient, settings: Settings) -> None:
    for titles in (["a", "b", "c"], ["d"]):
        body = {"candidates": titles}
        await client.post("/rank", json=body, headers={"x-request-id": "mine"})
        assert (await click(client, "mine", len(titles) - 1)).status_code == 200
    assert (await click(client, "mine", 2)).status_code == 422
    found = await figures(client)
    assert (found["answers"], found["impressions"], found["clicks"]) == (1, 1, 1)
    assert rows(settings.state / "feedback.sqlite", "SELECT count(*) FROM feedback") == [(1,)]


async def test_models_and_aliases_have_figures_of_their_own(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    store: FeedbackStore = app.state.feedback
    for number, (model, alias) in enumerate([("a", None), ("a", "x"), ("b", "x"), ("b", "x")]):
        store.keep(str(number), model, alias, [0.5])
        await click(client, str(number))
    found = (await client.get("/experiments")).json()["models"]
    assert [(one["model"], one["alias"], one["clicks"]) for one in found] == [
        ("a", None, 1),
        ("a", "x", 1),
        ("b", "x", 2),
    ]


async def test_an_alias_is_kept_with_the_answer(tmp_path: Path) -> None:
    async with service(tmp_path, aliases={"default": {MODEL: 1.0}}) as client:
        requests: list[tuple[str, Json]] = [
            ("/predict", {"target": "t"}),
            ("/rank", {"candidates": ["t"]}),
            ("/predict/batch", {"pairs": [{"target": "t"}]}),
        ]
        for path, body in requests:
            answer = (await client.post(path, json={"model": "default", **body})).json()
            assert (await click(client, answer["id"])).json()["model"] == MODEL
        found = await figures(client)
        assert (found["model"], found["alias"], found["clicks"]) == (MODEL, "default", 3)


async def test_no_answers_no_figures(client: httpx.AsyncClient) -> None:
    assert (await client.get("/experiments")).json() == {"models": []}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"id": "unknown", "clicked": True}, 404, "id"),
        ({"id": "unknown"}, 422, "clicked"),
        ({"clicked": True}, 422, "id"),
        ({"id": "x", "clicked": True, "index": -1}, 422, "index"),
        ({"id": "x", "clicked": True, "index": 1 << 16}, 422, "index"),
        ({"id": "x", "clicked": None}, 422, "clicked"),
        ({"id": "x" * 129, "clicked": True}, 422, "id"),
        ({"id": "x", "clicked": True, "title": "t"}, 422, "title"),
    ],
)
async def test_bad_feedback_names_the_field(
    client: httpx.AsyncClient, body: Json, status: int, param: str
) -> None:
    unknown = count("unknown")
    response = await client.post("/feedback", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert count("unknown") == unknown + (status == 404)


async def test_bad_days(client: httpx.AsyncClient) -> None:
    for days in ("0", "-1", "nan", "inf", "x"):
        response = await client.get("/experiments", params={"days": days})
        assert (response.status_code, response.json()["error"]["param"]) == (422, "days")


async def test_feedback_can_be_off(tmp_path: Path) -> None:
    async with service(tmp_path, feedback_answers=0) as client:
        answer = (await client.post("/predict", json={"target": "t"})).json()
        for response in (await click(client, answer["id"]), await client.get("/experiments")):
            assert response.status_code == 404
            assert "feedback is off" in response.json()["error"]["message"]
    assert not (tmp_path / "feedback.sqlite").exists()


async def test_neither_titles_nor_readers_are_kept(tmp_path: Path) -> None:
    async with service(tmp_path) as client:
        fields: Json = {"history": ["SECRET history"], "reader_id": "SECRET reader"}
        body = {"candidates": [{"id": "SECRET id", "title": "SECRET title"}], **fields}
        answer = (await client.post("/rank", json=body)).json()
        assert (await click(client, answer["id"])).status_code == 200
    kept = (tmp_path / "feedback.sqlite").read_bytes()  # stopped: nothing is left in the WAL
    assert answer["id"].encode() in kept
    assert b"SECRET" not in kept


# What is kept, and for how long


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
    monkeypatch.setattr("app.feedback.time", SimpleNamespace(time=lambda: clock))
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
    monkeypatch.setattr(feedback, "IDLE_S", 0.05)
    with running(tmp_path / "file", days=0.3 / DAY) as store:
        store.keep("old", "m", None, [0.5])
        await store.record("old", 0, True)
        await until(lambda: not rows(tmp_path / "file", "SELECT * FROM answers"))


async def test_many_old_answers_go_in_small_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(click_log, "TRIM", 100)
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


async def until(done: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


# Many at once


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


async def test_a_sender_that_leaves_harms_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "file") as store:
        store.keep("a", "m", None, [0.5] * 100)
        with locked(tmp_path / "file"):
            first = asyncio.create_task(store.record("a", 0, True))
            await asyncio.sleep(0.1)  # now the writer waits for the lock, the rest in the queue
            clicks = [asyncio.create_task(store.record("a", place, True)) for place in range(100)]
            await asyncio.sleep(0)
            for task in [first, *clicks[:50]]:
                task.cancel()
            await asyncio.sleep(0)
        results = await asyncio.gather(*clicks, return_exceptions=True)
        assert results[50:] == ["m"] * 50
        assert [one.clicks for one in await store.report()] == [51]  # the first was being written


async def test_a_slow_disk_costs_answers_not_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "QUEUED", 20)
    dropped = count("dropped")
    with running(tmp_path / "file") as store:
        with locked(tmp_path / "file"):
            started = time.perf_counter()
            for number in range(100):
                store.keep(str(number), "m", None, [0.5])
            assert time.perf_counter() - started < 0.1
            with pytest.raises(FeedbackUnavailable):
                await store.record("1", 0, True)
        await until(lambda: rows(tmp_path / "file", "SELECT count(*) FROM answers") >= [(20,)])
    ((kept,),) = rows(tmp_path / "file", "SELECT count(*) FROM answers")
    assert 20 <= kept <= 40
    assert count("dropped") - dropped == 100 - kept


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_keeping_an_answer_is_quick(tmp_path: Path) -> None:
    probabilities, order = [place / 300 for place in range(300)], list(range(299, -1, -1))
    with running(tmp_path / "file", answers=10) as store:
        times = []
        for number in range(2000):
            started = time.perf_counter()
            store.keep(f"{number:032x}", "m", "a", probabilities, order)
            times.append(time.perf_counter() - started)
    assert statistics.median(times) < 50e-6  # 16 on the machine it was written on


# What fails


async def test_a_kill_loses_no_feedback(tmp_path: Path) -> None:
    file = tmp_path / "file"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=write_until_killed, args=(file, theirs))
    process.start()
    acknowledged = [ours.recv() for _ in range(200)]
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while ours.poll():
        acknowledged.append(ours.recv())
    with running(file, answers=100_000) as store:
        (found,) = await store.report()
    assert len(acknowledged) <= found.clicks <= len(acknowledged) + 1
    assert rows(file, "PRAGMA integrity_check") == [("ok",)]


def write_until_killed(file: Path, to: Any) -> None:
    async def write() -> None:
        with running(file, answers=100_000) as store:
            for number in range(1_000_000):
                store.keep(str(number), "m", None, [0.5] * 10, list(range(10)))
                await store.record(str(number), 3, True)
                to.send(number)

    asyncio.run(write())


async def test_a_full_disk_stops_only_feedback(
    client: httpx.AsyncClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit on the size of a process's files makes every write that grows one fail."""
    answer = await rank(client, ["a", "b"])
    assert (await click(client, answer["id"])).status_code == 200
    dropped = count("dropped")
    wal = settings.state / "feedback.sqlite-wal"
    with largest_file(wal.stat().st_size):
        for _ in range(3):
            assert (await rank(client, ["a", "b"]))["results"]
            response = await click(client, answer["id"])
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "feedback_unavailable"
            assert response.headers["retry-after"] == "5"
        assert (await client.get("/health")).status_code == 200
        assert (await figures(client))["answers"] == 1  # reading goes on
    assert count("dropped") == dropped + 3
    answer = await rank(client, ["a", "b"])
    assert (await click(client, answer["id"])).status_code == 200
    lines = [line.message for line in caplog.records if line.name == "frontpage.feedback"]
    assert len(lines) == 2, lines
    assert "feedback can't be kept" in lines[0]
    assert lines[1].endswith("again")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_file_that_is_gone_stops_only_feedback(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    answer = await rank(client, ["a"])
    await click(client, answer["id"])
    for file in settings.state.glob("feedback*"):
        file.unlink()
    response = await client.get("/experiments")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "feedback_unavailable")
    assert (await rank(client, ["a"]))["results"]


def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database, but long enough to look like one " * 100)
    future = tmp_path / "future"
    with closing(sqlite3.connect(future)) as connection:
        connection.execute("PRAGMA user_version = 99")
    (tmp_path / "folder").mkdir()
    for file, why in [
        (text, "file is not a database"),
        (future, "it has version 99, this service has 1"),
        (tmp_path / "folder", "unable to open database file"),
        (text / "below", "File exists|Not a directory"),
    ]:
        with pytest.raises(StartupError, match=why) as caught:
            FeedbackStore(file, 30, 1000).start()
        assert "\n" not in str(caught.value)
    assert threading.active_count() < 50
