"""Files of earlier versions are taken over once, with nothing lost."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.errors import StartupError
from app.feedback.reports import Reports
from app.store.database import Database
from app.store.statements import CHUNK_ROWS
from tests.support.stores import rows, running

FORMER = Path(__file__).parents[2] / "fixtures" / "store" / "feedback.sql"
"""Written by the last version that kept a file of its own (`sqlite3 feedback.sqlite .dump`)."""


def former_file(folder: Path) -> Path:
    file = folder / "feedback.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(FORMER.read_text())
    return file


async def test_answers_and_feedback_are_taken_over(store_url: str, tmp_path: Path) -> None:
    file = former_file(tmp_path)
    with running(store_url, days=1e5, former_file=file) as store:
        (model,) = (await Reports(store).report()).models
        assert (model.model, model.alias) == ("news-smollm2", "default")
        assert (model.answers, model.stories, model.impressions, model.clicks) == (3, 8, 7, 2)
        assert [(at.impressions, at.clicks) for at in model.by_position[:3]] == [
            (2, 0),
            (2, 1),
            (2, 0),
        ]
        assert await store.record("rank-2", 0, True) == "news-smollm2"
    assert not file.exists()
    assert (tmp_path / "feedback.sqlite.adopted").exists()
    with running(store_url, days=1e5, former_file=file) as store:
        (model,) = (await Reports(store).report()).models
        assert (model.answers, model.clicks) == (3, 3)


async def test_a_start_that_was_cut_short_is_repeated(store_url: str, tmp_path: Path) -> None:
    """The rows were committed, but the file was not renamed yet."""
    former_file(tmp_path)
    for _ in range(2):
        with running(store_url, days=1e5, former_file=tmp_path / "feedback.sqlite"):
            (tmp_path / "feedback.sqlite.adopted").rename(tmp_path / "feedback.sqlite")
    assert rows(store_url, "SELECT count(*) FROM impressions") == [(3,)]
    assert rows(store_url, "SELECT count(*) FROM outcomes") == [(4,)]


async def test_many_answers_and_services_at_once(store_url: str, tmp_path: Path) -> None:
    file, many = former_file(tmp_path), CHUNK_ROWS * 2 + 1
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM answers")
        row = "m", None, 1, 1, b"\0\0", b"\0\0\0\0"
        connection.executemany(
            "INSERT INTO answers VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?)",
            [(number, f"id{number}", *row) for number in range(many)],
        )
        connection.execute("DELETE FROM feedback")
        connection.executemany(
            "INSERT INTO feedback VALUES (?, 0, 1)", [(number,) for number in range(many)]
        )
        connection.commit()

    def start_and_stop() -> None:
        with running(store_url, days=1e5, former_file=file):
            pass

    await asyncio.gather(*(asyncio.to_thread(start_and_stop) for _ in range(3)))
    joined = "impressions JOIN outcomes ON impression = number"
    assert rows(store_url, f"SELECT count(DISTINCT id) FROM {joined}") == [(many,)]


def test_a_broken_file_stops_the_start_and_stays(store_url: str, tmp_path: Path) -> None:
    file = tmp_path / "feedback.sqlite"
    file.write_bytes(b"SQLite format 3\0" + b"\1" * 5000)
    with (
        pytest.raises(StartupError, match="can't be taken over"),
        running(store_url, former_file=file),
    ):
        pass
    assert file.exists()
    Database(store_url).close()
