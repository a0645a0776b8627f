"""Vectors of titles: each is computed once, whatever becomes of the store."""

import asyncio
import gc
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from app.knowledge.encoders import Encoders
from app.knowledge.threads import LOADING, MAX_WAITING, NICENESS, Later, Threads
from app.knowledge.titles import AT_ONCE, KNOWN_ONLY, LARGE_AT_ONCE, TitleVectors, parsed
from app.likeness.encoder import SentenceEncoder
from app.store.database import Database
from app.store.retention import Retention, trim
from app.store.store import Store
from app.store.tables import vectors
from tests.support.rankers import titles
from tests.support.site_calls import ask, service
from tests.support.stores import rows, running
from tests.support.waiting import HANG_S, until

DAY_S = 86400.0
ENCODERS = 2
"""The encoder as it is, for cosines, and as the tower has tuned it."""


def taken(source: str) -> float:
    return REGISTRY.get_sample_value("frontpage_titles_total", {"source": source}) or 0.0


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """How many titles came from where within the block."""
    found = Counter[str]()
    before = {source: taken(source) for source in ("known", "stored", "computed")}
    yield found
    found.update({source: int(taken(source) - was) for source, was in before.items()})


def stored(url: str) -> int:
    return int(rows(url, "SELECT count(*) FROM vectors")[0][0])


async def rank(client: httpx.AsyncClient, candidates: Sequence[str]) -> list[float]:
    results = (await ask(client, "/rank", candidates=list(candidates)))["results"]
    return [one["probability"] for one in sorted(results, key=lambda one: int(one["index"]))]


def change(url: str, vector: bytes) -> None:
    database = Database(url)
    with database.writing() as connection:
        connection.execute(vectors.update().values(vector=vector))
    database.close()


async def test_without_remember_only_what_the_site_sends_is_stored(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    [sent, *carried] = titles(5)
    async with service(store_url, tmp_path, model=ranked, encoder=encoder) as client:
        await rank(client, carried)
        story = {"id": "N1", "title": sent}
        assert (await client.put("/stories", json={"stories": [story]})).status_code == 200
        await until(lambda: stored(store_url) == ENCODERS)
    assert stored(store_url) == ENCODERS


async def test_a_title_is_computed_once_by_all_instances(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    own = titles(30)
    async with service(
        store_url, tmp_path / "one", model=ranked, encoder=encoder, remember=True
    ) as one:
        with counting() as first:
            found = await rank(one, own)
        with counting() as again:
            assert await rank(one, own) == found
        await until(lambda: stored(store_url) >= ENCODERS * 30)
        async with service(
            store_url, tmp_path / "two", model=ranked, encoder=encoder, remember=True
        ) as two:
            with counting() as second:
                assert await rank(two, own) == pytest.approx(found, abs=1e-9)
    assert (first["computed"], again["computed"], second["computed"]) == (ENCODERS * 30, 0, 0)
    assert (again["known"], second["stored"]) == (ENCODERS * 30, ENCODERS * 30)


async def test_stories_are_embedded_before_a_request_names_them(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    stories = [{"id": f"N{number}", "title": title} for number, title in enumerate(titles(300))]
    async with service(store_url, tmp_path, model=ranked, encoder=encoder, remember=True) as client:
        assert (await client.put("/stories", json={"stories": stories})).status_code == 200
        await until(lambda: stored(store_url) >= ENCODERS * 300)
        with counting() as found:
            await ask(client, "/rank", candidates=[{"id": one["id"]} for one in stories])
        assert (found["computed"], found["known"]) == (0, ENCODERS * 300)


async def test_requests_are_answered_while_vectors_can_not_be_stored(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path
) -> None:
    database = Database(store_url)

    def rename(old: str, new: str) -> None:
        with database.writing() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    async with service(store_url, tmp_path, model=ranked, encoder=encoder, remember=True) as client:
        expected = await rank(client, titles(5))
        rename("vectors", "away")
        assert len(await rank(client, titles(40))) == 40
        assert (await rank(client, titles(5))) == expected
        rename("away", "vectors")
    database.close()


@pytest.mark.parametrize(
    "row",
    [b"", b"\x00", bytes(96), np.full(48, np.nan, np.float16).tobytes(), b"\x01" * 768],
    ids=["empty", "odd", "zeros", "NaN", "another encoder's"],
)
async def test_a_row_that_is_no_vector_is_computed_anew(
    store_url: str, tmp_path: Path, ranked: Path, encoder: Path, row: bytes
) -> None:
    own = titles(3)
    async with service(
        store_url, tmp_path / "one", model=ranked, encoder=encoder, remember=True
    ) as client:
        expected = await rank(client, own)
    change(store_url, row)
    async with service(
        store_url, tmp_path / "two", model=ranked, encoder=encoder, remember=True
    ) as client:
        with counting() as found:
            assert await rank(client, own) == pytest.approx(expected, abs=1e-9)
        assert (found["stored"], found["computed"]) == (0, ENCODERS * 3)
    sizes = {len(vector) for (vector,) in rows(store_url, "SELECT vector FROM vectors")}
    assert sizes == {96} or row != b""  # those of the probe stay as they are until it is asked for
    async with service(
        store_url, tmp_path / "three", model=ranked, encoder=encoder, remember=True
    ) as client:
        with counting() as found:
            assert await rank(client, own) == pytest.approx(expected, abs=1e-9)
        assert (found["stored"], found["computed"]) == (ENCODERS * 3, 0)


def test_only_vectors_of_unit_length_count() -> None:
    vector = np.array([0.6, 0.8], np.float16)
    assert parsed(vector.tobytes(), 2) == pytest.approx([0.6, 0.8], abs=1e-3)
    assert parsed(vector.tobytes(), 1) is None
    assert parsed((2 * vector).tobytes(), 2) is None
    assert parsed(np.array([np.nan, 1], np.float16).tobytes(), 2) is None


async def test_old_vectors_leave_the_store(store_url: str, encoder: Path) -> None:
    with running(store_url, remember=True) as store, started(encoder, store) as encoders:
        await encoders.vectors().of(["one", "two"])
        await until(lambda: stored(store_url) == 2)
        with store.database.writing() as connection:
            now = store.database.now()
            some = vectors.update().where(vectors.c.key == min(keys(store_url)))
            connection.execute(some.values(written=now - 3 * DAY_S))
        trim(store.database, Retention(story_days=4))
        assert stored(store_url) == 2
        trim(store.database, Retention(story_days=2))
        assert stored(store_url) == 1


def keys(url: str) -> list[bytes]:
    return [bytes(key) for (key,) in rows(url, "SELECT key FROM vectors")]


@contextmanager
def started(encoder: Path, store: Store) -> Iterator[Encoders]:
    found = Encoders(encoder, store)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def test_two_threads_may_embed_at_once(encoder: Path) -> None:
    own = SentenceEncoder(encoder)
    texts = [titles(40, seed)[: 5 + 7 * seed] for seed in range(5)] * 4
    expected = [own.embed(some) for some in texts]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(own.embed, texts))
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() < 1e-5


class Slow:
    """An encoder that waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.free = threading.Event(), threading.Event()
        self.asked: list[list[str]] = []
        self.priorities: defaultdict[str, list[int]] = defaultdict(list)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.priorities[texts[0].split()[0]].append(priority)
        self.begun.set()
        assert self.free.wait(HANG_S)
        return np.eye(4, dtype=np.float32)[[len(text) % 4 for text in texts]]


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[TitleVectors, Slow]]:
    with running(f"sqlite:///{tmp_path / 'store.sqlite'}", remember=True) as store:
        work, encoder = Threads(store), Slow()
        work.start()
        yield TitleVectors(b"slow", 4, lambda: encoder, work), encoder
        encoder.free.set()
        work.stop()


async def test_a_large_request_holds_no_other_up(slow: tuple[TitleVectors, Slow]) -> None:
    """Its titles are computed at low priority, in small parts, beside those of others."""
    own, encoder = slow
    large = asyncio.create_task(own.of([f"large {n}" for n in range(AT_ONCE + 1)]))
    await until(encoder.begun.is_set)
    small = asyncio.create_task(own.of([f"small {n}" for n in range(AT_ONCE)]))
    await until(lambda: len(encoder.asked) == 2)  # both are at work
    encoder.free.set()
    assert len(await small) == AT_ONCE
    assert len(await large) == AT_ONCE + 1
    sizes = [len(asked) for asked in encoder.asked if asked[0].startswith("large")]
    assert max(sizes) == LARGE_AT_ONCE
    assert sum(sizes) == AT_ONCE + 1
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert set(encoder.priorities["large"]) == {NICENESS}
    assert set(encoder.priorities["small"]) == {usual}


async def test_two_requests_for_one_new_title_compute_it_once(
    slow: tuple[TitleVectors, Slow],
) -> None:
    """A front page that nobody announced is asked for by many at once."""
    own, encoder = slow
    requests = [asyncio.create_task(own.of(["new", f"other {n}"])) for n in range(5)]
    await until(encoder.begun.is_set)
    encoder.free.set()
    found = await asyncio.gather(*requests)
    assert Counter(text for texts in encoder.asked for text in texts)["new"] == 1
    assert all((one["new"] == found[0]["new"]).all() for one in found)


async def test_a_long_queue_is_left_to_those_who_need_all_titles(
    slow: tuple[TitleVectors, Slow],
) -> None:
    own, encoder = slow
    first = asyncio.create_task(own.of(["known", "other"]))
    await until(encoder.begun.is_set)
    assert await own.of(["new"], queue=KNOWN_ONLY) == {}
    assert await own.of(["new"], queue=1) == {}
    patient = asyncio.create_task(own.of(["new"], queue=2))
    encoder.free.set()
    await first
    assert set(await patient) == {"new"}
    assert set(await own.of(["known", "newest"], queue=KNOWN_ONLY)) == {"known"}
    assert encoder.asked == [["known", "other"], ["new"]]


async def test_a_cancelled_request_has_nothing_more_computed(
    slow: tuple[TitleVectors, Slow],
) -> None:
    own, encoder = slow
    request = asyncio.create_task(own.of([f"title {n}" for n in range(300)]))
    await until(encoder.begun.is_set)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    encoder.free.set()
    await own.of([f"another {n}" for n in range(AT_ONCE + 1)])  # behind what is left of the first
    assert [texts[0].startswith("title") for texts in encoder.asked[:2]] == [True, False]


async def test_a_vector_keeps_no_others_in_memory(encoder: Path, tmp_path: Path) -> None:
    """Each is an array of its own, not a view of all that were computed with it."""
    with (
        running(f"sqlite:///{tmp_path / 'store.sqlite'}", remember=True) as store,
        started(encoder, store) as encoders,
    ):
        found = await encoders.vectors().of(titles(20))
        assert all(one.base is None for one in found.values())


async def test_an_encoder_goes_with_the_last_model_that_uses_it(
    encoder: Path, tmp_path: Path
) -> None:
    with (
        running(f"sqlite:///{tmp_path / 'store.sqlite'}", remember=True) as store,
        started(encoder, store) as encoders,
    ):
        first = encoders.vectors()
        assert encoders.vectors() is first
        await first.of(["one"])
        first.announce(titles(200))
        del first
        await until(lambda: encoders._work.later.waiting == 0)
        gc.collect()
        assert not len(encoders._known)


def test_what_is_announced_is_bounded_and_dropped_by_a_stop() -> None:
    later, free, done = Later(), threading.Event(), list[str]()
    later.announce(free.wait, MAX_WAITING - 1)
    later.announce(lambda: done.append("too many"), 2)
    later.announce(lambda: done.append("announced"), 1)
    assert later.waiting == MAX_WAITING
    later.keep(lambda: done.append("not kept"), 1)
    threading.Timer(0.2, free.set).start()
    later.stop()
    assert done == []


def test_a_stop_waits_for_what_is_to_be_stored() -> None:
    later, free, done = Later(), threading.Event(), list[str]()
    later.announce(free.wait, 1)
    later.announce(lambda: 1 / 0 and None, 1)
    later.keep(lambda: done.append("kept"), 1)
    threading.Timer(0.2, free.set).start()
    later.stop()
    assert done == ["kept"]


def test_a_stop_waits_for_an_encoder_that_is_loaded(slow: tuple[TitleVectors, Slow]) -> None:
    """What transformers replaces while it loads must not outlive the service that it loads for."""
    own, _ = slow
    with LOADING:
        stopping = threading.Thread(target=own._work.stop)
        stopping.start()
        stopping.join(0.2)
        assert stopping.is_alive()
    stopping.join(HANG_S)
    assert not stopping.is_alive()
