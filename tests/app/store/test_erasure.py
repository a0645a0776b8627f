"""Erasing readers and stories in small steps, on both databases."""

from collections.abc import Iterator
from unittest.mock import AsyncMock, patch

import pytest
from sqlalchemy import delete

from app.errors import StoreUnavailable
from app.store.reading import Past
from app.store.records import ClickEvent, ImpressionEvent, Remembered, StoredStory
from app.store.retention import trim
from app.store.store import Store
from app.store.tables import impressions
from tests.support.stores import rows, running


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with running(store_url) as found:
        yield found


def clicks(reader: str, story: str, count: int) -> list[ClickEvent]:
    return [ClickEvent(f"{reader}-{story}-{n}", 0.0, reader, story, None) for n in range(count)]


@pytest.fixture(autouse=True)
def small_steps() -> Iterator[None]:
    with patch("app.store.retention.STEP_ROWS", 3), patch("app.store.retention.SCANNED_ROWS", 4):
        yield


async def test_a_story_goes_with_all_of_its_clicks(store: Store, store_url: str) -> None:
    await store.put_stories([StoredStory("N1", "one"), StoredStory("N2", "two")])
    await store.add_events(
        [], clicks("u1", "N1", 7) + clicks("u2", "N2", 3) + clicks("u3", "N1", 5)
    )
    erased = await store.erase_story("N1")
    assert (erased.stories, erased.clicks) == (1, 12)
    assert rows(store_url, "SELECT story, count(*) FROM clicks GROUP BY story") == [("N2", 3)]
    assert rows(store_url, "SELECT id FROM stories") == [("N2",)]


async def test_a_story_without_clicks(store: Store) -> None:
    await store.put_stories([StoredStory("N1", "one")])
    assert (await store.erase_story("N1")).stories == 1


async def test_a_reader_goes_with_all_rows(store: Store, store_url: str) -> None:
    shown = [ImpressionEvent(f"i{n}", 0.0, "u1", ["N1"]) for n in range(10)]
    await store.add_events(shown, clicks("u1", "N1", 7) + clicks("u2", "N1", 1))
    erased = await store.erase_reader("u1")
    assert (erased.impressions, erased.clicks) == (10, 7)
    assert rows(store_url, "SELECT count(*) FROM clicks") == [(1,)]


async def test_events_of_a_clock_that_is_ahead_go_too(store: Store, store_url: str) -> None:
    later = store.database.now() + 300
    await store.add_events(
        [ImpressionEvent("i1", later, "u1", ["N1"])], [ClickEvent("c1", later, "u1", "N1", "i1")]
    )
    erased = await store.erase_reader("u1")
    assert (erased.impressions, erased.clicks) == (1, 1)
    assert rows(store_url, "SELECT count(*) FROM clicks") == [(0,)]


async def test_clicks_of_erased_answers_do_not_take_the_place_of_new_ones(
    store: Store, store_url: str
) -> None:
    """SQLite would give the number of a deleted row again, if it was the last."""
    store.remember = True
    for reader in ("u1", "u2"):
        shown = Remembered(reader, [StoredStory(f"of {reader}", "title")], None)
        store.keep(reader, "m", None, [0.5], [0], shown)
        await store.record(reader, 0, True)
        with store.database.writing() as connection:
            connection.execute(delete(impressions))
    found = rows(store_url, "SELECT story FROM clicks ORDER BY story")
    assert found == [("of u1",), ("of u2",)]


async def test_other_instances_forget_a_reader_with_their_next_pass(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(store_url) as other:
        await store.put_stories([StoredStory("N1", "one")])
        await store.add_events([], [ClickEvent("c1", store.database.now(), "u1", "N1", None)])
        assert (await other.reads.past("u1")).history
        await store.erase_reader("u1")
        other._tidy()
        monkeypatch.setattr(other.reads, "read", AsyncMock(side_effect=StoreUnavailable("away")))
        assert await other.reads.past("u1") == Past()


async def test_events_stay_where_feedback_is_off(store_url: str) -> None:
    with running(store_url, rows=0) as store:
        now = store.database.now()
        shown = [ImpressionEvent(f"i{n}", now, "u1", ["N1"]) for n in range(10)]
        old = ImpressionEvent("old", now - 31 * 86400, "u1", ["N1"])
        await store.add_events([*shown, old], [])
        trim(store.database, store.retention)
    assert rows(store_url, "SELECT count(*) FROM impressions") == [(10,)]
