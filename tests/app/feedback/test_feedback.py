"""Feedback and experiments over HTTP on the fake engine."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from app.settings import Settings
from app.store.store import Store
from tests.support.feedback_calls import MODEL, Json, click, count, figures, rank, service
from tests.support.stores import rows


async def test_feedback_finds_an_answer_given_just_before(client: httpx.AsyncClient) -> None:
    name, labels = "frontpage_feedback_total", {"model": MODEL, "clicked": "true"}
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    for number in range(50):
        answer = (await client.post("/predict", json={"target": f"t{number}"})).json()
        response = await client.post("/feedback", json={"id": answer["id"], "clicked": True})
        assert response.status_code == 200
        assert response.json() == {"id": answer["id"], "index": 0, "model": MODEL, "clicked": True}
    assert REGISTRY.get_sample_value(name, labels) == before + 50


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
    assert rows(settings.store_url, "SELECT count(*) FROM outcomes") == [(1,)]


async def test_models_and_aliases_have_figures_of_their_own(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    store: Store = app.state.service.store
    for number, (model, alias) in enumerate([("a", None), ("a", "x"), ("b", "x"), ("b", "x")]):
        store.keep(str(number), model, alias, [0.5])
        await click(client, str(number))
    found = (await client.get("/experiments")).json()
    assert [(one["model"], one["alias"], one["clicks"]) for one in found["models"]] == [
        ("a", None, 1),
        ("a", "x", 1),
        ("b", "x", 2),
    ]
    (pair,) = found["differences"]
    assert (pair["alias"], pair["model"], pair["other"]) == ("x", "a", "b")
    assert pair["click_through"]["value"] == 0
    assert pair["click_through"]["anytime"] is None
    assert pair["auc"] is None


async def test_answers_count_from_a_fixed_start(client: httpx.AsyncClient, app: FastAPI) -> None:
    app.state.service.store.keep("a", "m", None, [0.5])
    await click(client, "a")
    for since, models in [("2026-01-02T03:04:05Z", 1), ("2999-01-01T01:00:00+01:00", 0)]:
        found = await client.get("/experiments", params={"since": since})
        assert len(found.json()["models"]) == models
    queries = ({"since": "2026-01-02", "days": "1"}, {"since": "2026-01-02T03:04:05Z", "days": "1"})
    for query in queries:
        refused = await client.get("/experiments", params=query)
        assert refused.status_code == 422
        assert refused.json()["error"]["param"] == "since"


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
    assert (await client.get("/experiments")).json() == {"models": [], "differences": []}


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
    url = f"sqlite:///{tmp_path / 'frontpage.sqlite'}"
    assert rows(url, "SELECT count(*) FROM impressions") == [(0,)]


async def test_neither_titles_nor_readers_are_kept(tmp_path: Path) -> None:
    async with service(tmp_path) as client:
        fields: Json = {"history": ["SECRET history"], "reader_id": "SECRET reader"}
        body = {"candidates": [{"id": "SECRET id", "title": "SECRET title"}], **fields}
        answer = (await client.post("/rank", json=body)).json()
        assert (await click(client, answer["id"])).status_code == 200
    kept = (tmp_path / "frontpage.sqlite").read_bytes()  # stopped: nothing is left in the WAL
    assert answer["id"].encode() in kept
    assert b"SECRET" not in kept.replace(b"SECRET id", b"")  # live figures count by ids
