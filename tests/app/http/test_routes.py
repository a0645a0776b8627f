"""The whole HTTP service on the fake engine."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from app.engine.base import LabelScore
from app.engine.fake import FakeEngine
from app.main import create_app
from app.scoring.prompt import Prompt
from app.settings import Settings
from tests.support.servers import serving, started
from tests.support.waiting import HANG_S, until

Json = dict[str, Any]


async def test_predict_answers_with_all_fields(client: httpx.AsyncClient, reader: Json) -> None:
    response = await client.post("/predict", json={**reader, "target": "Microsoft"})
    assert response.status_code == 200
    body = response.json()
    assert list(body) == [
        "id",
        "model",
        "usage",
        "latency_ms",
        "ranker",
        "degraded",
        "probability",
        "text_probability",
        "stage",
        "label",
        "label_mass",
        "history_used",
        "explanation",
        "live",
    ]
    assert (body["ranker"], body["explanation"], body["live"]) == (False, None, None)
    assert body["text_probability"] == body["probability"]
    assert body["id"] == response.headers["x-request-id"]
    assert body["model"] == "smollm2-135m-instruct"
    assert body["label"] == ("Yes." if body["probability"] >= 0.5 else "No.")
    assert body["label_mass"] == pytest.approx(0.9)
    assert body["history_used"] == 2
    assert body["usage"]["prompt_tokens"] > 80
    assert body["latency_ms"] > 0


async def test_a_story_is_a_title_or_an_object(client: httpx.AsyncClient, reader: Json) -> None:
    target = {"id": "N1", "title": "Microsoft", "category": "finance"}
    plain = await client.post("/predict", json={**reader, "target": "Microsoft"})
    full = await client.post("/predict", json={**reader, "target": target})
    assert plain.json()["probability"] == full.json()["probability"]


async def test_rank_orders_and_agrees_with_predict(client: httpx.AsyncClient, reader: Json) -> None:
    candidates = [{"id": f"N{number}", "title": f"story {number}"} for number in range(30)]
    candidates.append(candidates[3] | {"id": "twin"})
    body = (await client.post("/rank", json={**reader, "candidates": candidates})).json()
    results = body["results"]
    assert [result["rank"] for result in results] == list(range(1, 32))
    probabilities = [result["probability"] for result in results]
    assert probabilities == sorted(probabilities, reverse=True)
    twins = [result["id"] for result in results if result["index"] in (3, 30)]
    assert twins == ["N3", "twin"]  # a tie keeps the order of arrival
    for result in results[:5]:
        assert candidates[result["index"]]["id"] == result["id"]
        alone = await client.post(
            "/predict", json={**reader, "target": candidates[result["index"]]["title"]}
        )
        assert alone.json()["probability"] == result["probability"]


class Forgetful(FakeEngine):
    """Scores each prompt anew, a little lower each time, as an engine does whose cache fills."""

    def __init__(self) -> None:
        super().__init__()
        self.scored: list[Prompt] = []

    def _score(self, prompt: Prompt, adapter: str | None) -> LabelScore:
        self.scored.append(prompt)
        score = super()._score(prompt, adapter)
        return replace(score, log_yes=score.log_yes - 1e-6 * len(self.scored), cached_tokens=7)


async def test_equal_stories_are_one_prediction_and_keep_their_order(
    settings: Settings, reader: Json
) -> None:
    engine = Forgetful()
    titles = ["Tesla", "Rain\nat sea", "Tesla", "Tesla ", "Rain at sea", "Tesla"]
    candidates = [{"id": f"{n}", "title": title} for n, title in enumerate(titles)]
    async with started(create_app(settings, engine)) as client:
        engine.scored.clear()
        body = (await client.post("/rank", json={**reader, "candidates": candidates})).json()
        assert len(engine.scored) == 3
        found = {one["index"]: one["probability"] for one in body["results"]}
        assert found[0] == found[2] == found[5]
        assert found[1] == found[4]
        order = [one["index"] for one in body["results"]]
        assert [index for index in order if index in (0, 2, 5)] == [0, 2, 5]
        sizes = [len(prompt.tokens) for prompt in engine.scored]  # Tesla, Rain, "Tesla "
        assert body["usage"]["prompt_tokens"] == 3 * sizes[0] + 2 * sizes[1] + sizes[2]
        assert body["usage"]["cached_tokens"] == 2 * sizes[0] + sizes[1] + 3 * 7

        pairs = [{**reader, "target": "a"}, {"target": "a"}, {**reader, "target": "a"}] * 2
        engine.scored.clear()
        body = (await client.post("/predict/batch", json={"pairs": pairs})).json()
        assert len(engine.scored) == 2
        first, second, *rest = [one["probability"] for one in body["results"]]
        assert first != second
        assert rest == [first, first, second, first]
        assert [one["history_used"] for one in body["results"]] == [2, 0, 2] * 2


async def test_rank_top_k_cuts(client: httpx.AsyncClient, reader: Json) -> None:
    request = {**reader, "candidates": ["a", "b", "c"], "top_k": 2}
    results = (await client.post("/rank", json=request)).json()["results"]
    assert [result["rank"] for result in results] == [1, 2]


async def test_batch_answers_each_pair_in_order(client: httpx.AsyncClient, reader: Json) -> None:
    pairs = [{**reader, "target": "a"}, {"target": "b"}, {"history": ["x"], "target": "c"}]
    body = (await client.post("/predict/batch", json={"pairs": pairs})).json()
    alone = [(await client.post("/predict", json=pair)).json() for pair in pairs]
    assert [one["probability"] for one in body["results"]] == [one["probability"] for one in alone]
    assert [one["history_used"] for one in body["results"]] == [2, 0, 1]
    assert body["usage"]["prompt_tokens"] == sum(one["usage"]["prompt_tokens"] for one in alone)


async def test_little_label_mass_is_unknown(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.label_mass = 0.05
    assert (await client.post("/predict", json={"target": "t"})).json()["label"] == "Unknown"


async def test_titles_on_several_lines_and_categories_are_one_line(
    client: httpx.AsyncClient,
) -> None:
    probabilities = set()
    for gap in (" ", "\n", "\r\n", "\x00", "\u2028"):
        story = {"title": f"Rain{gap}at sea", "category": f"news{gap}"}
        answer = await client.post("/predict", json={"history": [story], "target": story})
        probabilities.add(answer.json()["probability"])
    assert len(probabilities) == 1


async def test_unknown_routes_and_methods_have_the_same_shape(client: httpx.AsyncClient) -> None:
    for response in (await client.get("/nothing"), await client.get("/predict")):
        assert response.status_code in (404, 405)
        assert response.json()["error"]["request_id"]


async def test_head_is_get_without_a_body(app: FastAPI) -> None:
    """Wherever GET is, on a real server; a route that forbids GET forbids HEAD too."""
    paths: dict[str, set[str]] = {"/page/style.css": {"GET"}}
    for route in app.routes:
        if isinstance(route, Route) and "{" not in route.path:
            paths.setdefault(route.path, set()).update(route.methods or ())
    assert {"/health", "/ready", "/metrics", "/v1/models", "/aliases", "/docs"} <= {*paths}
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        for path in sorted(paths):
            get, head = await client.get(path), await client.head(path)
            assert head.status_code == get.status_code == (200 if "GET" in paths[path] else 405)
            assert head.content == b""
            if path != "/metrics":  # it grows between the two
                assert head.headers["content-length"] == get.headers["content-length"], path
            assert head.headers["content-type"] == get.headers["content-type"]
        text = (await client.get("/metrics")).text
    assert 'method="HEAD",model="",route="/ready",status="200"' in text


async def test_head_tells_what_get_would(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.dead = True
    for path in ("/health", "/ready"):
        head = await client.head(path)
        assert (head.status_code, head.content) == (503, b"")
        assert len(head.headers["x-request-id"]) == 32


async def test_request_id_is_taken_over_unless_it_is_strange(client: httpx.AsyncClient) -> None:
    kept = await client.get("/health", headers={"x-request-id": "my-id.1"})
    assert kept.headers["x-request-id"] == "my-id.1"
    replaced = await client.get("/health", headers={"x-request-id": "no spaces; please"})
    assert len(replaced.headers["x-request-id"]) == 32


async def test_a_dead_engine_is_503_everywhere_but_for_metrics(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    well = {"status": "ok", "engine": "ready"}
    assert (await client.get("/health")).json() == well
    assert (await client.get("/ready")).json() == well | {"level": "full"}
    engine.dead = True
    for response in (
        await client.get("/health"),
        await client.get("/ready"),
        await client.post("/predict", json={"target": "t"}),
    ):
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "engine_unavailable"
    assert (await client.get("/metrics")).status_code == 200


async def test_a_fault_of_ours_is_a_500_that_shows_nothing(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("secret /path")

    monkeypatch.setattr(app.state.service.recommender, "predict", explode)
    response = await client.post("/predict", json={"target": "t"})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.json()["error"]["type"] == "server_error"
    assert response.headers["x-request-id"] == response.json()["error"]["request_id"]


async def test_a_client_that_leaves_aborts_its_request(app: FastAPI, engine: FakeEngine) -> None:
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        engine.latency_seconds = 2 * HANG_S
        body = {"candidates": list("abcdefghijklmnopqrst")}
        asking = asyncio.create_task(client.post("/rank", json=body))
        await until(lambda: engine.running == 20)
        asking.cancel()
        await until(lambda: engine.running == 0)
        engine.latency_seconds = 0
        assert engine.aborted == 20
        assert (await client.post("/predict", json={"target": "t"})).status_code == 200


async def test_metrics_count_requests_stories_and_tokens(
    client: httpx.AsyncClient, reader: Json
) -> None:
    def value(text: str, name: str) -> float:
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0

    stories = 'frontpage_stories_scored_total{model="smollm2-135m-instruct"}'
    requests = (
        'frontpage_requests_total{method="POST",model="smollm2-135m-instruct",route="/rank"'
        ',status="200"}'
    )
    before = (await client.get("/metrics")).text
    await client.post("/rank", json={**reader, "candidates": ["a", "b", "c"]})
    await client.get("/made/up/path")
    after = (await client.get("/metrics")).text
    assert value(after, stories) - value(before, stories) == 3
    assert value(after, requests) - value(before, requests) == 1
    assert 'route="unmatched",status="404"' in after
    assert "/made/up/path" not in after


async def test_docs_need_no_internet(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc"):
        page = (await client.get(path)).text
        assert "https://" not in page
        assert "/static-offline-docs/" in page
    for file in ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js"):
        assert (await client.get(f"/static-offline-docs/{file}")).status_code == 200


async def test_no_text_of_readers_is_logged(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await client.post("/predict", json={"history": ["private story"], "target": "other story"})
    await client.post("/predict", json={"history": ["private story"], "target": 7})
    assert "story" not in caplog.text
    assert "POST /predict 200" in caplog.text
    assert "POST /predict 422" in caplog.text
