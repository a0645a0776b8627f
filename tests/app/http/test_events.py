"""POST /events and PUT /stories on both databases."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from app.http.bulk import PORTION, parse_list
from tests.support.site_calls import (
    Json,
    click,
    history_of,
    impression,
    put,
    refused,
    send,
    service,
)
from tests.support.stores import rows

OUTCOMES = "SELECT position, clicked FROM outcomes ORDER BY impression, position"


@pytest.fixture
async def site(store_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with service(store_url, tmp_path) as client:
        yield client


def counted(kind: str, outcome: str) -> float:
    labels = {"type": kind, "outcome": outcome}
    return REGISTRY.get_sample_value("frontpage_events_total", labels) or 0.0


async def test_a_batch_sent_twice_counts_once(site: httpx.AsyncClient, store_url: str) -> None:
    before = counted("click", "duplicate"), counted("impression", "accepted")
    batch = [
        impression("N1", "N2", id="i1", reader_id="u1"),
        click("N2", id="c1", reader_id="u1", impression_id="i1"),
        click("N2", id="c1", reader_id="u1", impression_id="i1"),
    ]
    assert await send(site, *batch) == (2, 1)
    assert await send(site, *batch) == (0, 3)
    assert rows(store_url, "SELECT count(*) FROM impressions") == [(1,)]
    assert rows(store_url, OUTCOMES) == [(1, True)]
    assert counted("click", "duplicate") == before[0] + 3
    assert counted("impression", "accepted") == before[1] + 1


async def test_a_batch_sent_to_two_services_at_once_counts_once(
    store_url: str, tmp_path: Path
) -> None:
    batch = [impression("N1", "N2", id=f"i{number}") for number in range(300)]
    batch += [click("N1", id=f"c{number}", impression_id=f"i{number}") for number in range(300)]
    async with service(store_url, tmp_path) as one, service(store_url, tmp_path) as other:
        found = await asyncio.gather(
            *(send(client, *order) for client in (one, other) for order in (batch, batch[::-1]))
        )
    assert sum(accepted for accepted, _ in found) == 600
    assert sum(duplicates for _, duplicates in found) == 1800
    assert rows(store_url, "SELECT count(*) FROM outcomes WHERE clicked") == [(300,)]


async def test_a_click_may_come_before_its_impression(
    site: httpx.AsyncClient, store_url: str
) -> None:
    assert await send(site, click("N2", impression_id="i1"), click("N2", impression_id="i1")) == (
        2,
        0,
    )
    assert rows(store_url, OUTCOMES) == []
    await send(site, impression("N1", "N2", id="i1"))
    assert rows(store_url, OUTCOMES) == [(1, True)]
    assert rows(store_url, "SELECT count(*) FROM clicks WHERE awaits IS NOT NULL") == [(0,)]


async def test_a_click_on_what_was_not_shown_is_no_outcome(
    site: httpx.AsyncClient, store_url: str
) -> None:
    await send(site, impression("N1", id="i1"), click("N9", impression_id="i1", reader_id="u"))
    assert rows(store_url, OUTCOMES) == []


async def test_times_of_the_past_are_taken_as_they_are(
    site: httpx.AsyncClient, store_url: str
) -> None:
    """A replay in any order gives the order in which it happened."""
    now = int(time.time())
    week = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - 7 * 86400))
    await put(site, N1="one", N2="two", N3="three")
    await send(
        site,
        click("N3", reader_id="u1", time=now - 60),
        click("N1", reader_id="u1", time=f"{week}Z"),
        click("N2", reader_id="u1", time=now - 3600.5),
    )
    assert await history_of(site, "u1") == ["N1", "N2", "N3"]
    assert rows(store_url, "SELECT time FROM clicks ORDER BY time") == [
        (now - 7 * 86400,),
        (now - 3600.5,),
        (now - 60,),
    ]
    await send(site, click("N9", id="c"))
    [(found,)] = rows(store_url, "SELECT time FROM clicks WHERE id = 'c'")
    assert abs(found - time.time()) < 600


GOOD: Json = {"type": "click", "story": "N1"}
LONG = "x" * 201
SOON = int(time.time()) // 3600 * 3600 + 7200
"""In one to two hours; the same in all processes that collect the tests."""
BAD: list[tuple[object, str]] = [
    ({"type": "click"}, "story"),
    ({"type": "click", "story": ""}, "story"),
    ({"type": "click", "story": "a\x00b"}, "story"),
    ({"type": "click", "story": "a\x1fb"}, "story"),
    ({"type": "click", "story": LONG}, "story"),
    ({"type": "click", "story": "N1", "stories": ["N1"]}, "stories"),
    ({"type": "click", "story": "N1", "impression_id": LONG}, "impression_id"),
    ({"type": "click", "story": "N1", "reader_id": LONG}, "reader_id"),
    ({"type": "click", "story": "N1", "id": "\n"}, "id"),
    ({"type": "click", "story": "N1", "time": "2026-01-01T00:00:00"}, "time"),
    ({"type": "click", "story": "N1", "time": "yesterday"}, "time"),
    ({"type": "click", "story": "N1", "time": True}, "time"),
    ({"type": "click", "story": "N1", "time": [1]}, "time"),
    ({"type": "click", "story": "N1", "time": 1e300}, "time"),
    ({"type": "click", "story": "N1", "time": SOON}, "time"),
    ({"type": "click", "story": "N1", "time": "9999-12-31T23:59:59Z"}, "time"),
    ({"type": "impression", "stories": []}, "stories"),
    ({"type": "impression", "stories": ["a", ""]}, "stories.1"),
    ({"type": "impression", "stories": ["a"] * 1001}, "stories"),
    ({"type": "impression", "story": "N1"}, "story"),
    ({"type": "purchase", "story": "N1"}, "type"),
    ({"story": "N1"}, "type"),
    ({"type": 3, "story": "N1"}, "type"),
    ("click", ""),
    (None, ""),
]


@pytest.mark.parametrize(("event", "field"), BAD, ids=repr)
async def test_a_bad_event_names_its_index_and_field(
    client: httpx.AsyncClient, event: object, field: str
) -> None:
    batch = {"events": [GOOD, GOOD, GOOD, event, GOOD]}
    param = f"events.3.{field}".rstrip(".")
    assert await refused(client, "POST", "/events", batch) == (422, param)


async def test_a_bad_event_rejects_the_whole_batch(site: httpx.AsyncClient, store_url: str) -> None:
    batch = [*[GOOD] * PORTION * 2, {"type": "click"}]
    where = f"events.{2 * PORTION}.story"
    assert await refused(site, "POST", "/events", {"events": batch}) == (422, where)
    story = {"id": "N1", "title": "t"}
    for wrong, field in (({"id": "N2"}, "title"), ({**story, "title": "\n"}, "title")):
        body = {"stories": [story, wrong]}
        assert await refused(site, "PUT", "/stories", body) == (422, f"stories.1.{field}")
    assert rows(store_url, "SELECT * FROM clicks") == rows(store_url, "SELECT * FROM stories") == []


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 422, "events"),
        ({"events": []}, 422, "events"),
        ({"events": {}}, 422, "events"),
        ({"events": [GOOD] * 10_001}, 422, "events"),
        ({"events": [GOOD], "more": 1}, 422, "more"),
        ({"stories": [GOOD]}, 422, "stories"),
        ([GOOD], 422, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_other_bodies(
    client: httpx.AsyncClient, body: object, status: int, param: str | None
) -> None:
    assert await refused(client, "POST", "/events", body) == (status, param)


@pytest.mark.parametrize(
    "body",
    [
        b'{"events": [{"type": "click", "story": "N1"}',
        b'{"events": [{"type": "click", "story": "N1"},]}',
        b'{"events": [{"type": "click", "story": "\\ud800"}]}',
        b'{"events": [{"type": "click", "story": "N1", "reader_id": "\\udfff"}]}',
        b'{"events": [{"type": "click", "story": "N1", "time": NaN}]}',
        b'{"events": [' + b"9" * 5000 + b"]}",
        b'{"events": ' + b"[" * 100_000,
        b'{"events": ["\xff"]}',
    ],
    ids=lambda body: repr(body[:60]),
)
async def test_what_can_not_be_read_or_kept_is_a_422(
    client: httpx.AsyncClient, body: bytes
) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post("/events", content=body, headers=headers)
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (' { "a" : [ 1 , {"b": [2]} ] } \n', {"a": [1, {"b": [2]}]}),
        ('{"a":["x","y"]}', {"a": ["x", "y"]}),
        ('{"a": []}', None),
        ('{"a": [1] "b": 2}', None),
        ('{"a": [1]} 2', None),
        ('{"a": [1 2]}', None),
        ("[1]", None),
    ],
)
async def test_a_list_is_parsed_in_portions(text: str, found: Any) -> None:
    assert await parse_list(text) == found
    many = json.dumps({"a": list(range(3 * PORTION))})
    assert await parse_list(many) == json.loads(many)


async def test_other_requests_are_served_while_a_batch_is_read(client: httpx.AsyncClient) -> None:
    """The event loop is free after each portion: for 10,000 events, a hundred times."""
    batch = asyncio.create_task(client.post("/events", json={"events": [GOOD] * 10_000}))
    turns = 0
    while not batch.done():
        turns += 1
        await asyncio.sleep(0)
    assert (await batch).json() == {"accepted": 10_000, "duplicates": 0}
    assert turns >= 2 * 10_000 / PORTION


async def test_stories_are_replaced_and_shown(site: httpx.AsyncClient) -> None:
    url = "https://site.example/news/1?a=b&c=%20"
    sent = {"id": url, "title": "Rain\nat sea\x00", "category": "news\t", "published_at": 1.5}
    twice = {"stories": [{"id": url, "title": "first"}, sent]}
    assert (await site.put("/stories", json=twice)).json() == {"stored": 1}
    path = "/stories/" + httpx.QueryParams({"": url}).__str__()[1:].replace("+", "%20")
    assert (await site.get(path)).json() == {
        "id": url,
        "title": "Rain at sea ",
        "category": "news ",
        "published_at": "1970-01-01T00:00:01.500000Z",
        "live": None,
    }
    later = {"id": url, "title": "new", "published_at": "2026-03-01T08:00:00+02:00"}
    await site.put("/stories", json={"stories": [later]})
    found = (await site.get(path)).json()
    assert (found["title"], found["category"]) == ("new", None)
    assert found["published_at"] == "2026-03-01T06:00:00Z"
    assert (await site.delete(path)).json() == {"stories": 1, "clicks": 0}
    for method in ("GET", "DELETE"):
        assert (await site.request(method, path)).status_code == 404


async def test_titles_have_the_limit_of_requests(store_url: str, tmp_path: Path) -> None:
    limits = {"max_title_chars": 5, "max_bulk_bytes": 5000, "max_body_bytes": 100}
    async with service(store_url, tmp_path, limits=limits) as client:
        stories = [{"id": "N1", "title": "short"}, {"id": "N2", "title": "longer"}]
        wrong = "stories.1.title"
        assert await refused(client, "PUT", "/stories", {"stories": stories}) == (422, wrong)
        await put(client, **{f"N{number}": "title" for number in range(20)})
        story = {"id": "N1", "title": "t" * 6000}
        assert (await client.put("/stories", json={"stories": [story]})).status_code == 413
        assert (await client.post("/rank", json={"candidates": ["t" * 200]})).status_code == 413
