"""Feedback where a disk, a lock, a process or a file fails: only feedback stops."""

import asyncio
import multiprocessing
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.errors import FeedbackUnavailable, StartupError
from app.feedback.store import FeedbackStore
from app.feedback.tables import LOCK_TIMEOUT_S
from app.settings import Settings
from tests.support.feedback_calls import (
    click,
    count,
    figures,
    locked,
    rank,
    rows,
    running,
    signalled,
)
from tests.support.waiting import until


async def test_a_sender_that_leaves_harms_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "file") as store:
        store.keep("a", "m", None, [0.5] * 100)
        with locked(tmp_path / "file"), signalled(store, "_write") as writing:
            first = asyncio.create_task(store.record("a", 0, True))
            await until(writing.is_set)  # the writer has its batch and waits for the lock
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
    monkeypatch.setattr("app.feedback.store.MAX_QUEUED", 20)
    dropped = count("dropped")
    with running(tmp_path / "file") as store:
        with locked(tmp_path / "file"):
            started = time.perf_counter()
            for number in range(100):
                store.keep(str(number), "m", None, [0.5])
            assert time.perf_counter() - started < LOCK_TIMEOUT_S  # none waited for the disk
            with pytest.raises(FeedbackUnavailable):
                await store.record("1", 0, True)
        await until(lambda: rows(tmp_path / "file", "SELECT count(*) FROM answers") >= [(20,)])
    ((kept,),) = rows(tmp_path / "file", "SELECT count(*) FROM answers")
    assert 20 <= kept <= 40
    assert count("dropped") - dropped == 100 - kept


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
