"""Where a disk, a lock, a process or the database fails: nothing acknowledged is lost, and only
what needs the store stops."""

import asyncio
import multiprocessing
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest

from app.errors import FeedbackUnavailable, StoreUnavailable
from app.feedback.reports import Reports
from app.settings import Settings
from app.store import writer
from app.store.database import LOCK_TIMEOUT_S
from app.store.reading import Past
from app.store.records import ClickEvent, StoredStory
from app.store.store import Store
from tests.support.feedback_calls import click, count, figures, locked, rank
from tests.support.postgres import migrated, postgres_server
from tests.support.stores import rows, running
from tests.support.waiting import until


async def test_a_sender_that_leaves_harms_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with running(f"sqlite:///{file}") as store:
        store.keep("a", "m", None, [0.5] * 100)
        await store.record("a", 0, True)
        with locked(file):
            first = asyncio.create_task(store.record("a", 0, True))
            await until(lambda: store._writer.writing)
            clicks = [asyncio.create_task(store.record("a", place, True)) for place in range(100)]
            await asyncio.sleep(0)
            for task in [first, *clicks[:50]]:
                task.cancel()
            await asyncio.sleep(0)
        results = await asyncio.gather(*clicks, return_exceptions=True)
        assert results[50:] == ["m"] * 50
        assert [one.clicks for one in (await Reports(store).report()).models] == [51]


async def test_a_slow_disk_costs_answers_not_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.writer.MAX_QUEUED", 20)
    dropped, file = count("dropped"), tmp_path / "file"
    with running(f"sqlite:///{file}") as store, locked(file):
        started = time.perf_counter()
        for number in range(100):
            store.keep(str(number), "m", None, [0.5])
        assert time.perf_counter() - started < LOCK_TIMEOUT_S  # none waited for the disk
        with pytest.raises(FeedbackUnavailable):
            await store.record("1", 0, True)
    ((kept,),) = rows(f"sqlite:///{file}", "SELECT count(*) FROM impressions")
    assert 20 <= kept <= 40
    assert count("dropped") - dropped == 100 - kept


async def test_a_kill_loses_no_feedback(store_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=write_until_killed, args=(store_url, theirs))
    process.start()
    acknowledged = [ours.recv() for _ in range(200)]
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while ours.poll():
        acknowledged.append(ours.recv())
    with running(store_url, rows=100_000) as store:
        (found,) = (await Reports(store).report()).models
    assert len(acknowledged) <= found.clicks <= len(acknowledged) + 1
    if store.database.is_sqlite:
        assert rows(store_url, "PRAGMA integrity_check") == [("ok",)]


def write_until_killed(url: str, to: Any) -> None:
    async def write() -> None:
        with running(url, rows=100_000) as store:
            for number in range(1_000_000):
                store.keep(str(number), "m", None, [0.5] * 10, list(range(10)))
                await store.record(str(number), 3, True)
                to.send(number)

    asyncio.run(write())


async def test_a_full_disk_stops_only_the_store(
    client: httpx.AsyncClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit on the size of a process's files makes every write that grows one fail."""
    answer = await rank(client, ["a", "b"])
    assert (await click(client, answer["id"])).status_code == 200
    dropped = count("dropped")
    wal = settings.state / "frontpage.sqlite-wal"
    ids = []
    with largest_file(wal.stat().st_size):
        for _ in range(3):
            found = await rank(client, ["a", "b"])
            ids.append(found["id"])
            response = await click(client, answer["id"], 1)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "feedback_unavailable"
            assert response.headers["retry-after"] == "5"
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200
        assert "frontpage_store_up 0.0" in (await client.get("/metrics")).text
        assert (await figures(client))["answers"] == 1  # reading goes on
    for one in ids:  # what was answered in between is kept once there is room again
        assert (await click(client, one)).status_code == 200
    assert count("dropped") == dropped
    assert "frontpage_store_up 1.0" in (await client.get("/metrics")).text
    lines = [line.message for line in caplog.records if line.name == "frontpage.store"]
    assert len(lines) == 2, lines
    assert "the store fails" in lines[0]
    assert lines[1].endswith("again")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_one_bad_item_does_not_hold_up_the_others(store_url: str) -> None:
    """A text that the database can't take; over HTTP none can come this far."""
    with running(store_url) as store:
        bad = store.put_stories([StoredStory("\ud83d", "half a pair")])
        store.keep("a", "m", None, [0.5])
        results = await asyncio.gather(bad, store.record("a", 0, True), return_exceptions=True)
        assert isinstance(results[0], StoreUnavailable)
        assert results[1] == "m"


async def feed(
    store: Store, sender: int, answers: list[str], clicks: list[str], until_set: asyncio.Event
) -> None:
    """Answers, feedback and events until told to end; notes what was acknowledged."""
    number = 0
    while not until_set.is_set():
        number += 1
        name = f"{sender}-{number}"
        store.keep(name, "m", None, [0.5])
        answers.append(name)
        try:
            event = ClickEvent(name, time.time(), "reader", "story", None)
            await asyncio.gather(store.record(name, 0, True), store.add_events([], [event]))
            clicks.append(name)
        except StoreUnavailable:
            await asyncio.sleep(0.01)


async def test_postgresql_killed_and_back_under_load() -> None:
    with postgres_server() as server:
        url = migrated(server)
        with running(url, rows=10**6) as store:
            answers: list[str] = []
            clicks: list[str] = []
            stop = asyncio.Event()
            feeding = [
                asyncio.create_task(feed(store, sender, answers, clicks, stop))
                for sender in range(4)
            ]
            await until(lambda: len(clicks) > 50)
            for _ in range(2):
                await asyncio.to_thread(server.stop, signal.SIGQUIT)
                before = len(answers)
                await until(lambda before=before: len(answers) > before + 20)  # type: ignore[misc]
                await asyncio.to_thread(server.start)
                done = len(clicks)
                await until(lambda done=done: len(clicks) > done + 50)  # type: ignore[misc]
            stop.set()
            await asyncio.gather(*feeding)
        assert rows(url, "SELECT count(*) FROM impressions") == [(len(set(answers)),)]
        joined = "outcomes JOIN impressions ON number = impression"
        outcomes = dict(rows(url, f"SELECT id, count(*) FROM {joined} GROUP BY 1"))
        kept = dict(rows(url, "SELECT id, count(*) FROM clicks GROUP BY 1"))
        for name in clicks:
            assert outcomes[name] == kept[name] == 1
        assert set(outcomes.values()) == set(kept.values()) == {1}


async def test_postgresql_that_hangs() -> None:
    with postgres_server() as server:
        url = migrated(server)
        with running(url) as store, pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.store.store.ACKNOWLEDGE_S", 0.5)
            await store.put_stories([StoredStory("known", "A title")])
            server.pause()
            try:
                store.keep("a", "m", None, [0.5])
                with pytest.raises(StoreUnavailable):
                    await store.put_stories([StoredStory("x", "y")])
                with pytest.raises(StoreUnavailable):
                    await store.reads.stories(["unknown"])
                assert await store.reads.stories(["known"]) == {
                    "known": StoredStory("known", "A title")
                }
                assert await store.reads.past("reader") == Past()
            finally:
                server.resume()
            await until(lambda: rows(url, "SELECT id FROM impressions") == [("a",)])
            patch.setattr("app.store.store.ACKNOWLEDGE_S", 30)
            assert await store.record("a", 0, True) == "m"


async def test_postgresql_with_a_full_disk() -> None:
    with postgres_server() as server:
        url = migrated(server)
        with running(url) as store:
            await store.put_stories([StoredStory("known", "A title")])
            server.limit_files(2 << 20)  # of its files only tables grow so large
            number, refused = 0, False
            while not refused:
                number += 1
                many = [StoredStory(f"{number}-{n}", token_hex(2000)) for n in range(100)]
                try:
                    await store.put_stories(many)
                except StoreUnavailable:
                    refused = True
            store.keep("a", "m", None, [0.5])
            assert (await store.reads.stories(["known"]))["known"].title == "A title"
            server.limit_files(-1)
            await until(lambda: rows(url, "SELECT id FROM impressions") == [("a",)])
            assert await store.record("a", 0, True) == "m"
            await store.put_stories(many)
        assert rows(url, "SELECT count(*) FROM stories") == [(number * 100 + 1,)]


async def test_a_process_ends_while_postgresql_hangs() -> None:
    with postgres_server() as server:
        url = migrated(server)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=read_and_end, args=(url, theirs))
        process.start()
        assert ours.recv() == "started"
        server.pause()
        ours.send("go on")
        try:
            assert await asyncio.to_thread(ours.recv) == "refused"
            await asyncio.to_thread(process.join)
        finally:
            server.resume()
        assert process.exitcode == 0


def read_and_end(url: str, to: Any) -> None:
    async def work() -> None:
        with running(url) as store:
            await store.put_stories([StoredStory("known", "A title")])
            to.send("started")
            to.recv()
            store.keep("a", "m", None, [0.5])
            with pytest.raises(StoreUnavailable):
                await store.reads.stories(["unknown"])
            to.send("refused")

    writer.STOP_S = 0.5
    asyncio.run(work())


async def test_a_file_that_is_gone_stops_only_the_store(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    answer = await rank(client, ["a"])
    await click(client, answer["id"])
    with closing(sqlite3.connect(settings.state / "frontpage.sqlite")) as connection:
        connection.execute("DROP TABLE outcomes")
    response = await client.get("/experiments")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "feedback_unavailable")
    assert (await click(client, answer["id"])).status_code == 503
    assert (await rank(client, ["a"]))["results"]
