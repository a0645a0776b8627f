"""Stories by their ids, and readers by theirs, on both databases."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.service import Service
from tests.support import site_calls
from tests.support.site_calls import Json, ask, click, put, refused, send


@pytest.fixture
async def site(store_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with site_calls.service(store_url, tmp_path) as client:
        await put(client, N1="Rain at sea", N2="Cup final", N3="Stocks fall", N4="New phone")
        yield client


N1, N2, N3, N4 = ({"id": f"N{number}"} for number in (1, 2, 3, 4))


def answer(body: Json) -> Json:
    """Without what differs between two equal requests."""
    return {name: body[name] for name in body.keys() - {"id", "latency_ms"}}


async def test_an_id_means_the_stored_title_everywhere(site: httpx.AsyncClient) -> None:
    by_id: Json = {"history": [N1, "x"], "liked": [N2], "disliked": [N3]}
    by_title: Json = {
        "history": ["Rain at sea", "x"],
        "liked": ["Cup final"],
        "disliked": ["Stocks fall"],
    }
    target: Json = {"id": "N4", "title": "New phone"}
    for path, short, full in (
        ("/predict", {**by_id, "target": N4}, {**by_title, "target": target}),
        (
            "/rank",
            {**by_id, "candidates": [N4, N1]},
            {**by_title, "candidates": [target, {"id": "N1", "title": "Rain at sea"}]},
        ),
        (
            "/predict/batch",
            {"pairs": [{**by_id, "target": N4}]},
            {"pairs": [{**by_title, "target": target}]},
        ),
    ):
        assert answer(await ask(site, path, **short)) == answer(await ask(site, path, **full))


async def test_a_title_that_is_sent_wins(site: httpx.AsyncClient) -> None:
    sent = await ask(site, "/predict", target={"id": "N1", "title": "Cup final"})
    assert sent["probability"] == (await ask(site, "/predict", target=N2))["probability"]


async def test_what_is_not_stored_is_named(site: httpx.AsyncClient) -> None:
    unknown = {"id": "N9"}
    for path, body, param in (
        ("/rank", {"candidates": [N1, N2, N3, unknown]}, "candidates.3.id"),
        ("/rank", {"candidates": [N1, {}]}, "candidates.1.title"),
        ("/rank", {"candidates": [{"id": ""}]}, "candidates.0.title"),
        ("/rank", {"candidates": [{"id": "N1", "title": ""}]}, "candidates.0.title"),
        ("/rank", {"candidates": [{"id": "N\x001"}]}, "candidates.0.id"),
        ("/rank", {"candidates": [{"id": "N\x001", "title": "t"}]}, "candidates.0.id"),
        ("/rank", {"candidates": ["t"], "history": [N1, unknown]}, "history.1.id"),
        ("/predict", {"target": unknown}, "target.id"),
        ("/predict", {"target": {"category": "news"}}, "target.title"),
        ("/predict", {"target": "t", "liked": [unknown]}, "liked.0.id"),
        ("/predict", {"target": "t", "disliked": [unknown]}, "disliked.0.id"),
        ("/predict/batch", {"pairs": [{"target": N1}, {"target": unknown}]}, "pairs.1.target.id"),
        (
            "/predict/batch",
            {"pairs": [{"target": N1, "history": [unknown]}]},
            "pairs.0.history.0.id",
        ),
    ):
        assert await refused(site, "POST", path, body) == (422, param), (path, body)


async def test_a_reader_without_a_history_has_the_stored_one(site: httpx.AsyncClient) -> None:
    await send(
        site,
        *(click(f"N{number}", reader_id="u1") for number in (3, 1, 2)),
        click("N4", reader_id="u2"),
        click("N9", reader_id="u1"),  # it has no title
    )
    assert await predicted(site, reader_id="u1") == await predicted(
        site, history=["Stocks fall", "Rain at sea", "Cup final"]
    )
    for fields, used in (
        ({"reader_id": "u1"}, 3),
        ({"reader_id": "u1", "history": []}, 0),
        ({"reader_id": "u1", "history": ["a", "b"]}, 2),
        ({"reader_id": "u3"}, 0),
        ({"reader_id": ""}, 0),
        ({}, 0),
    ):
        assert {one for _, one in await predicted(site, **fields)} == {used}, fields


async def predicted(client: httpx.AsyncClient, **fields: Any) -> list[tuple[float, int]]:
    """The probability of N4 and the stories of the history used, by /predict and by /rank."""
    alone = await ask(client, "/predict", target=N4, **fields)
    [ranked] = (await ask(client, "/rank", candidates=[N4], **fields))["results"]
    return [(one["probability"], one["history_used"]) for one in (alone, ranked)]


async def test_the_reader_of_a_batch_is_that_of_its_pairs(site: httpx.AsyncClient) -> None:
    await send(site, click("N1", reader_id="u1"), click("N2", reader_id="u1"))
    pairs: list[Json] = [
        {"target": N4},
        {"target": N4, "history": []},
        {"target": N4, "liked": [N1]},
    ]
    found = await ask(site, "/predict/batch", reader_id="u1", pairs=pairs)
    assert [one["history_used"] for one in found["results"]] == [2, 0, 2]


async def test_one_request_reads_stories_once(app: FastAPI, client: httpx.AsyncClient) -> None:
    """Of all its lists, and none if nothing is missing."""
    await put(client, N1="one", N2="two")
    service: Service = app.state.service
    asked: list[set[str]] = []
    real = service.store.reads.stories

    async def noted(ids: Any) -> Any:
        asked.append(set(ids))
        return await real(ids)

    service.store.reads.stories = noted  # type: ignore[method-assign]
    body: Json = {"history": [N1], "liked": [N2], "disliked": [N1]}
    await ask(client, "/rank", **body, candidates=[N1, N2, "t", {"id": "N3", "title": "t"}])
    await ask(client, "/rank", candidates=["t", {"id": "N3", "title": "t"}], history=["x"])
    assert asked == [{"N1", "N2"}]


async def test_ids_in_json_of_any_form(site: httpx.AsyncClient) -> None:
    """A title of null is none."""
    body = json.dumps({"candidates": [{"id": "N1", "title": None, "category": None}]})
    headers = {"content-type": "application/json"}
    assert (await site.post("/rank", content=body, headers=headers)).status_code == 200
