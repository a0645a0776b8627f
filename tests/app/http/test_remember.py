"""What is kept of requests, with `remember` and without, on both databases."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.store.database import Database
from app.store.records import title_id
from app.store.retention import Retention, trim
from tests.support.postgres import Postgres, binaries, migrated, postgres_server
from tests.support.site_calls import Json, ask, click, history_of, impression, put, send, service
from tests.support.stores import rows
from tests.support.waiting import HANG_S

OUTCOMES = "SELECT position, clicked FROM outcomes ORDER BY impression, position"


@pytest.fixture
async def site(store_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """It remembers."""
    async with service(store_url, tmp_path, remember=True) as client:
        yield client


async def eventually(find: Callable[[], Awaitable[object]], expected: object) -> None:
    """Wait for what is written off the request path, and for caches. Raises TimeoutError."""
    async with asyncio.timeout(HANG_S):
        while await find() != expected:
            await asyncio.sleep(0.02)


async def clicked(
    client: httpx.AsyncClient, answer: Json, index: int, is_click: bool = True
) -> None:
    await ask(client, "/feedback", id=answer["id"], index=index, clicked=is_click)


def everything(url: str) -> bytes:
    """All that the database holds, as it lies in its files or as a dump has it."""
    if url.startswith("sqlite"):
        return Path(url.removeprefix("sqlite:///")).read_bytes()  # stopped: the WAL is empty
    dump = [str(binaries() / "pg_dump"), "--data-only", "--inserts", url.replace("+psycopg", "")]
    return subprocess.run(dump, check=True, capture_output=True).stdout


SECRET: Json = {
    "reader_id": "SECRET reader",
    "history": [{"id": "SECRET old", "title": "SECRET history"}],
    "liked": ["SECRET liked"],
    "disliked": ["SECRET disliked"],
}
STORY: Json = {"id": "SECRET id", "title": "SECRET title", "category": "SECRET category"}


async def all_routes(client: httpx.AsyncClient) -> list[str]:
    """Each kind of request, with secrets in all places; returns the answers' ids."""
    answers = [
        await ask(client, "/rank", candidates=[STORY, "SECRET other"], **SECRET),
        await ask(client, "/predict", target=STORY, **SECRET),
        await ask(
            client,
            "/predict/batch",
            reader_id=SECRET["reader_id"],
            pairs=[{"target": STORY, "history": SECRET["history"]}],
        ),
    ]
    for answer in answers:
        await clicked(client, answer, 0)
    return [str(answer["id"]) for answer in answers]


async def test_without_it_only_the_ids_of_the_stories_are_kept_of_a_request(
    store_url: str, tmp_path: Path
) -> None:
    async with service(store_url, tmp_path) as client:
        ids = await all_routes(client)
    kept = everything(store_url)
    assert all(name.encode() in kept for name in ids)
    assert b"SECRET" not in kept.replace(b"SECRET id", b"")
    assert b"SECRET".hex().encode() not in kept
    assert rows(store_url, "SELECT DISTINCT reader, history FROM impressions") == [(None, None)]
    shown = {text for (text,) in rows(store_url, "SELECT story_ids FROM impressions")}
    other = title_id("SECRET other")
    assert '["SECRET id"]' in shown
    assert shown <= {'["SECRET id"]', f'["SECRET id","{other}"]', f'["{other}","SECRET id"]'}
    assert rows(store_url, "SELECT count(*) FROM clicks") == [(0,)]
    assert rows(store_url, "SELECT count(*) FROM stories") == [(0,)]


async def test_with_it_readers_are_kept_by_a_keyed_hash_only(
    store_url: str, tmp_path: Path
) -> None:
    async with service(store_url, tmp_path, remember=True) as client:
        await all_routes(client)
    kept = everything(store_url)
    assert b"SECRET title" in kept
    assert b"SECRET reader" not in kept
    assert b"SECRET reader".hex().encode() not in kept
    readers = rows(store_url, "SELECT DISTINCT reader FROM impressions")
    assert len(readers) == 1
    assert len(bytes(readers[0][0])) == 16


async def test_stories_are_kept_in_the_order_shown(site: httpx.AsyncClient, store_url: str) -> None:
    candidates = [{"id": f"N{n}", "title": f"story {n}", "category": "c\x00"} for n in range(9)]
    history = ["old\none", {"id": "N1", "title": "story 1"}]
    answer = await ask(
        site, "/rank", candidates=[*candidates, "plain"], history=history, reader_id="u", top_k=5
    )
    shown = [one["index"] for one in answer["results"]]
    ids = [*(f"N{n}" for n in range(9)), title_id("plain")]
    await clicked(site, answer, shown[0])
    expected = "[" + ",".join(f'"{ids[index]}"' for index in shown) + "]"
    old = title_id("old one")
    assert rows(store_url, "SELECT story_ids, history FROM impressions") == [
        (expected, f'["{old}","N1"]')
    ]
    stored = dict(rows(store_url, "SELECT id, title FROM stories"))
    assert stored[old] == "old one"
    assert set(stored) == {old, "N1", *(ids[index] for index in shown)}
    assert {c for (c,) in rows(store_url, "SELECT DISTINCT category FROM stories")} == {"c ", None}


async def test_a_readers_clicks_become_the_history(site: httpx.AsyncClient) -> None:
    body: Json = {"reader_id": "u1", "candidates": [{"id": "N1", "title": "one"}, "two", "three"]}
    answer = await ask(site, "/rank", **body)
    assert answer["results"][0]["history_used"] == 0
    await clicked(site, answer, 1)
    await clicked(site, answer, 0)
    await clicked(site, answer, 2, is_click=False)

    async def used() -> int:
        found = await ask(site, "/rank", **body)
        return int(found["results"][0]["history_used"])

    await eventually(used, 2)
    assert await history_of(site, "u1") == [title_id("two"), "N1"]
    await clicked(site, answer, 1, is_click=False)
    await eventually(used, 1)
    assert await history_of(site, "u1") == ["N1"]


async def test_single_predictions_and_batches_are_remembered(site: httpx.AsyncClient) -> None:
    pairs = [{"target": {"id": "N1", "title": "one"}}, {"target": "two", "history": ["old"]}]
    batch = await ask(site, "/predict/batch", reader_id="u1", pairs=pairs)
    await clicked(site, batch, 1)
    alone = await ask(site, "/predict", reader_id="u1", target="three", history=["old"])
    await clicked(site, alone, 0)
    assert await history_of(site, "u1") == [title_id("two"), title_id("three")]
    known = (await site.get("/readers/u1")).json()
    assert (known["impressions"], known["clicks"]) == (2, 2)


async def test_clicks_of_events_name_remembered_answers(
    site: httpx.AsyncClient, store_url: str
) -> None:
    answer = await ask(
        site, "/rank", candidates=[{"id": "a", "title": "A"}, {"id": "b", "title": "B"}]
    )
    second = answer["results"][1]["id"]
    event = click(second, id="c1", reader_id="u1", impression_id=answer["id"])
    assert await send(site, event) == (1, 0)
    assert rows(store_url, OUTCOMES) == [(1, True)]
    assert await send(site, event, click(second, id="c2", impression_id=answer["id"])) == (1, 1)
    assert rows(store_url, OUTCOMES) == [(1, True)]
    [model] = (await site.get("/experiments")).json()["models"]
    assert (model["impressions"], model["clicks"]) == (2, 1)


async def test_ids_alone_do_not_write_old_titles_back(store_url: str, tmp_path: Path) -> None:
    async with (
        service(store_url, tmp_path, remember=True) as one,
        service(store_url, tmp_path) as other,
    ):
        await put(one, N1="wrong title")
        await ask(one, "/predict", target={"id": "N1"})
        await put(other, N1="right title")
        answer = await ask(one, "/rank", candidates=[{"id": "N1"}], history=[{"id": "N1"}])
        await clicked(one, answer, 0)
        assert rows(store_url, "SELECT title FROM stories") == [("right title",)]
        await other.delete("/stories/N1")
        answer = await ask(one, "/rank", candidates=[{"id": "N1"}])
        await clicked(one, answer, 0)
        assert rows(store_url, "SELECT title FROM stories") == []


async def test_what_is_shown_by_its_id_is_kept_for_longer(
    site: httpx.AsyncClient, store_url: str
) -> None:
    await put(site, N1="one", N2="two", N3="three")
    database = Database(store_url)
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE stories SET updated = updated - 300 * 86400")
    answer = await ask(site, "/rank", candidates=[{"id": "N1"}])
    await clicked(site, answer, 0)
    await send(site, impression("N2"))
    trim(database, Retention(story_days=200))
    database.close()
    assert rows(store_url, "SELECT id FROM stories ORDER BY id") == [("N1",), ("N2",)]


async def test_a_reader_is_erased(site: httpx.AsyncClient, store_url: str) -> None:
    await put(site, N1="one", N2="two")
    for reader in ("u1", "u2"):
        await send(
            site,
            impression("N1", "N2", reader_id=reader, id=f"i-{reader}"),
            click("N1", reader_id=reader, impression_id=f"i-{reader}"),
            click("N2", reader_id=reader),
        )
        await ask(site, "/rank", candidates=[{"id": "N1"}], reader_id=reader)
    known = (await site.get("/readers/u1")).json()
    assert known["reader_id"] == "u1"
    assert [story["title"] for story in known["history"]] == ["one", "two"]
    assert known["clicks"] == 2
    assert known["first"] <= known["last"]
    assert (await site.delete("/readers/u1")).json() == {"impressions": 2, "clicks": 2}
    assert (await site.get("/readers/u1")).status_code == 404
    assert (await site.delete("/readers/u1")).json() == {"impressions": 0, "clicks": 0}
    found = await ask(site, "/rank", candidates=[{"id": "N1"}], reader_id="u1")
    assert found["results"][0]["history_used"] == 0
    assert await history_of(site, "u2") == ["N1", "N2"]
    assert rows(store_url, OUTCOMES) == [(0, True)]


async def test_what_another_instance_had_queued_is_erased_too(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance that can't write for a while writes an erased reader's rows afterwards."""
    monkeypatch.setattr("app.store.writer.LINGER_S", HANG_S)
    async with service(store_url, tmp_path, remember=True) as late:
        answer = await ask(late, "/rank", candidates=["t"], reader_id="u1")
        async with service(store_url, tmp_path) as other:
            assert (await other.delete("/readers/u1")).json() == {"impressions": 0, "clicks": 0}
            await clicked(late, answer, 0)
            assert rows(store_url, "SELECT count(*) FROM impressions") == [(1,)]
            database = Database(store_url)
            trim(database, Retention())
            database.close()
    assert rows(store_url, "SELECT count(*) FROM impressions") == [(0,)]


async def test_readers_have_ids_of_any_kind(site: httpx.AsyncClient) -> None:
    await put(site, N1="one")
    for reader, path in (
        ("a/b", "a/b"),
        ("a b?c#d%", "a%20b%3Fc%23d%25"),
        ("a\nb\n", "a%0Ab%0A"),
        ("中文", "中文"),
        ("nul\x00", "nul%00"),
    ):
        await send(site, click("N1", reader_id=reader))
        assert await history_of(site, path) == ["N1"], reader
    for method in ("GET", "DELETE"):
        assert (await site.request(method, "/readers/" + "x" * 201)).status_code == 422
        assert (await site.request(method, "/stories/%00")).status_code == 422


async def test_feedback_for_an_impossible_id_is_no_outage(site: httpx.AsyncClient) -> None:
    answer = await site.post("/feedback", json={"id": "\x00", "clicked": True})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "id")


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


async def test_while_the_store_is_away_known_ids_go_on(
    own_postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.reads.READ_PAUSE_S", 0.0)
    url = migrated(own_postgres)
    async with service(url, tmp_path, remember=True) as client:
        await put(client, N1="one", N2="two")
        await send(client, click("N1", reader_id="u1"))
        known = await ask(client, "/rank", candidates=[{"id": "N1"}], reader_id="u1")
        own_postgres.stop()
        again = await ask(client, "/rank", candidates=[{"id": "N1"}], reader_id="u1")
        assert again["results"] == known["results"]
        found = await ask(client, "/rank", candidates=[{"id": "N2"}, "t"], reader_id="new")
        assert found["results"][0]["history_used"] == 0
        for method, path, body in (
            ("POST", "/rank", {"candidates": [{"id": "N1"}, {"id": "N9"}]}),
            ("POST", "/events", {"events": [click("N1")]}),
            ("PUT", "/stories", {"stories": [{"id": "N3", "title": "three"}]}),
            ("GET", "/readers/u1", None),
            ("DELETE", "/readers/u1", None),
            ("DELETE", "/stories/N1", None),
        ):
            answer = await client.request(method, path, json=body)
            assert answer.status_code == 503, path
            assert answer.json()["error"]["code"] == "store_unavailable"
            assert answer.headers["retry-after"] == "5"
        assert (await client.get("/ready")).status_code == 200
        own_postgres.start()
        await eventually(lambda: status(client, "/events", {"events": [click("N2", id="c")]}), 200)
    assert rows(url, "SELECT count(*) FROM impressions WHERE reader IS NOT NULL") == [(3,)]


async def status(client: httpx.AsyncClient, path: str, body: Json) -> int:
    return (await client.post(path, json=body)).status_code
