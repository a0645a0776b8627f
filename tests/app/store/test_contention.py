"""Many who write at once: instances that write the same rows, and large batches beside feedback."""

import asyncio
from pathlib import Path

import pytest

from app.store.records import ImpressionEvent, Remembered, StoredStory
from app.store.store import Store
from tests.support.feedback_calls import count, locked
from tests.support.stores import rows, running


async def test_instances_that_write_the_same_rows_in_other_orders(store_url: str) -> None:
    """PostgreSQL ends one of two transactions that wait for each other; it is tried again."""
    first, second = ([f"{letter}{n}" for n in range(400)] for letter in "AB")

    async def put(store: Store, round_: int, names: list[str]) -> None:
        await store.put_stories([StoredStory(name, f"{round_} {id(store)}") for name in names])

    with running(store_url) as one, running(store_url) as other:
        for round_ in range(5):
            orders = [(one, first), (one, second), (other, second), (other, first)]
            await asyncio.gather(*(put(store, round_, names) for store, names in orders * 2))
    titles = rows(store_url, "SELECT DISTINCT substr(title, 1, 2) FROM stories")
    assert titles == [("4 ",)]


async def test_feedback_does_not_wait_for_all_large_batches(store_url: str) -> None:
    with running(store_url) as store:
        store.keep("a", "m", None, [0.5])
        await store.record("a", 0, False)
        events = [
            [ImpressionEvent(f"{batch}-{n}", 0.0, None, ["N1"]) for n in range(2000)]
            for batch in range(8)
        ]
        batches = [asyncio.create_task(store.add_events(part, [])) for part in events]
        await asyncio.sleep(0)
        await store.record("a", 0, True)
        assert not all(batch.done() for batch in batches[:-2])
        assert [one.accepted for one in await asyncio.gather(*batches)] == [2000] * 8


async def test_remembered_answers_that_wait_take_limited_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.writer.MAX_QUEUED_BYTES", 1_000_000)
    dropped, file = count("dropped"), tmp_path / "file"
    carried = Remembered("u1", [StoredStory("N1", "t" * 10_000)], None)
    with running(f"sqlite:///{file}", remember=True) as store:
        with locked(file):
            for number in range(500):
                store.keep(str(number), "m", None, [0.5], [0], carried)
            assert not store.accepts_answers
        kept = 500 - (count("dropped") - dropped)
        assert 98 <= kept < 250
        while not store.accepts_answers:
            await asyncio.sleep(0.01)
    assert rows(f"sqlite:///{file}", "SELECT count(*) FROM impressions") == [(kept,)]
