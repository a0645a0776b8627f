"""The whole HTTP service on the fake engine."""

import asyncio
import gzip
import zlib
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from app.engine.base import LabelScore
from app.engine.fake import FakeEngine
from app.http.routes import openai
from app.main import create_app
from app.scoring.prompt import Prompt
from app.settings import Limits, Settings
from tests.support.models import SMOLLM2
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
        "probability",
        "text_probability",
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


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/predict", {}, 422, "target"),
        ("/predict", {"target": ""}, 422, "target.title"),
        ("/predict", {"target": " "}, 422, "target.title"),
        ("/predict", {"target": {"title": "\u3000\n\x00\u200b\u2028"}}, 422, "target.title"),
        ("/predict", {"target": "t", "liked": ["a", "\t"]}, 422, "liked.1.title"),
        ("/predict", {"target": "t", "histroy": []}, 422, "histroy"),
        ("/predict", {"target": "t", "history": ["a", 3]}, 422, "history.1"),
        ("/predict", {"target": {"title": "t", "cat": "x"}}, 422, "target.cat"),
        ("/predict", {"target": "x" * 10_001}, 422, "target.title"),
        ("/predict", {"target": "word " * 1990}, 422, "target"),
        ("/predict", {"target": "t", "model": "none"}, 404, "model"),
        ("/rank", {"candidates": []}, 422, "candidates"),
        ("/rank", {"candidates": ["t"] * 1001}, 422, "candidates"),
        ("/rank", {"candidates": ["t"], "top_k": 0}, 422, "top_k"),
        ("/rank", {"candidates": ["t", "word " * 1990]}, 422, "candidates.1"),
        ("/rank", {"candidates": ["t", "\r\n"]}, 422, "candidates.1.title"),
        ("/predict/batch", {"pairs": []}, 422, "pairs"),
        ("/predict/batch", {"pairs": [{"target": "\ufeff "}]}, 422, "pairs.0.target.title"),
        ("/predict/batch", {"pairs": [{"target": "word " * 1990}]}, 422, "pairs.0.target"),
    ],
)
async def test_bad_requests_name_the_field(
    client: httpx.AsyncClient, path: str, body: Json, status: int, param: str
) -> None:
    response = await client.post(path, json=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code", "request_id"]
    assert error["param"] == param
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"\xc3\x28",
        b'{"target": "\\ud800"}',
        b"",
        b'{"target": NaN}',
    ],
)
async def test_malformed_bodies_are_422(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = await client.post("/predict", content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_value"


PLAIN = b'{"target": "t", "prompt": "t"}'
JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (gzip.compress(PLAIN), {"content-type": JSON, "content-encoding": "gzip"}, 415, "(gzip)"),
        (zlib.compress(PLAIN), {"content-type": JSON, "content-encoding": "Deflate"}, 415, "as it"),
        (b"1", {"content-encoding": "br"}, 415, "compressed (br)"),
        (PLAIN, {}, 415, "Content-Type: application/json, which is missing"),
        (PLAIN, {"content-type": "text/plain; charset=utf-8"}, 415, "json, not text/plain"),
        (PLAIN, {"content-type": "application/x-www-form-urlencoded"}, 415, "x-www-form-urlenc"),
        (b'{"target": "\xff"}', {"content-type": JSON}, 422, "not UTF-8: the byte at position 12"),
        (b'{"target": "caf\xe9"}', {"content-type": JSON}, 422, "position 15 "),
        (b'{"target": ' + b"[" * 100_000, {"content-type": JSON}, 422, "nested too deeply"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, {"content-type": JSON}, 422, "nested too deeply"),
        (b'{"top_k": ' + b"9" * 5_000 + b"}", {"content-type": JSON}, 422, "too many digits"),
    ],
)
async def test_bodies_that_cannot_be_read_say_why(
    app: FastAPI,
    client: httpx.AsyncClient,
    body: bytes,
    headers: dict[str, str],
    status: int,
    says: str,
) -> None:
    app.dependency_overrides[openai.openai] = lambda: None  # the fake has no OpenAI API
    for path in ("/predict", "/rank", "/feedback", "/v1/completions", "/v1/chat/completions"):
        answer = await client.post(path, content=body, headers=headers)
        expected = 400 if status == 422 and path.startswith("/v1/") else status
        assert (answer.status_code, path) == (expected, path)
        assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": JSON, "content-encoding": "identity"},
        {"content-type": "application/vnd.news+json; charset=utf-8"},
        {"content-type": "Application/JSON"},
    ],
)
async def test_what_is_json_is_read(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post("/predict", content=b'{"target": "t"}', headers=headers)
    assert answer.status_code == 200
    answer = await client.post("/predict", content=b'{"target": ""}', headers=headers)
    assert answer.json()["error"]["param"] == "target.title"
    answer = await client.post("/predict", headers=headers)
    assert answer.json()["error"]["message"] == "body: Field required"


async def test_titles_on_several_lines_and_categories_are_one_line(
    client: httpx.AsyncClient,
) -> None:
    probabilities = set()
    for gap in (" ", "\n", "\r\n", "\x00", "\u2028"):
        story = {"title": f"Rain{gap}at sea", "category": f"news{gap}"}
        answer = await client.post("/predict", json={"history": [story], "target": story})
        probabilities.add(answer.json()["probability"])
    assert len(probabilities) == 1


async def test_an_error_can_quote_half_a_surrogate_pair(client: httpx.AsyncClient) -> None:
    for path in ("/predict", "/v1/completions"):
        response = await client.post(
            path,
            content=b'{"\\ud800": {}, "target": "t"}',
            headers={"content-type": "application/json"},
        )
        assert response.status_code in (404, 422)


async def test_unknown_routes_and_methods_have_the_same_shape(client: httpx.AsyncClient) -> None:
    for response in (await client.get("/nothing"), await client.get("/predict")):
        assert response.status_code in (404, 405)
        assert response.json()["error"]["request_id"]


async def test_head_is_get_without_a_body(app: FastAPI) -> None:
    """Wherever GET is, on a real server; a route that forbids GET forbids HEAD too."""
    app.dependency_overrides[openai.openai] = lambda: None
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


async def test_body_over_the_limit_is_413(engine: FakeEngine) -> None:
    app = create_app(Settings(model=SMOLLM2, limits=Limits(max_body_bytes=2000)), engine)

    async def chunks() -> Any:
        for _ in range(5):
            yield b'{"target": "' + b"x" * 1000

    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        said = await client.post("/predict", json={"target": "x" * 3000})
        unsaid = await client.post("/predict", content=chunks())
        fits = await client.post("/predict", json={"target": "x" * 100})
    assert (said.status_code, unsaid.status_code, fits.status_code) == (413, 413, 200)
    assert said.json()["error"]["code"] == unsaid.json()["error"]["code"] == "body_too_large"


async def test_limits_can_be_lowered(engine: FakeEngine) -> None:
    app = create_app(Settings(model=SMOLLM2, limits=Limits(max_candidates=2, max_pairs=1)), engine)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        rank = await client.post("/rank", json={"candidates": ["a", "b", "c"]})
        batch = await client.post("/predict/batch", json={"pairs": [{"target": "a"}] * 2})
    assert (rank.status_code, rank.json()["error"]["param"]) == (422, "candidates")
    assert (batch.status_code, batch.json()["error"]["param"]) == (422, "pairs")


async def test_request_id_is_taken_over_unless_it_is_strange(client: httpx.AsyncClient) -> None:
    kept = await client.get("/health", headers={"x-request-id": "my-id.1"})
    assert kept.headers["x-request-id"] == "my-id.1"
    replaced = await client.get("/health", headers={"x-request-id": "no spaces; please"})
    assert len(replaced.headers["x-request-id"]) == 32


async def test_a_dead_engine_is_503_everywhere_but_for_metrics(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}
    assert (await client.get("/ready")).json() == {"status": "ok"}
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
