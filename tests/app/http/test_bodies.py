"""Bodies of requests: what is malformed, compressed, too large or wrong in a field, and how the
answer says so."""

import gzip
import zlib
from typing import Any

import httpx
import pytest

from app.engine.fake import FakeEngine
from app.main import create_app
from app.settings import Limits, Settings
from tests.support.models import SMOLLM2
from tests.support.servers import serving

Json = dict[str, Any]


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
        ("/predict", {"targte": "t"}, 422, "targte"),  # rather than `target`, which is missing
        (
            "/rank",
            {"candidates": [""], "top_k": 0, "history": [{"titel": 1}]},
            422,
            "history.0.titel",
        ),
        ("/events", {"events": [{"type": "click", "stroy": "N1"}]}, 422, "events.0.stroy"),
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
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    headers: dict[str, str],
    status: int,
    says: str,
) -> None:
    monkeypatch.setattr(FakeEngine, "openai", "never reached")
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


async def test_an_error_can_quote_half_a_surrogate_pair(client: httpx.AsyncClient) -> None:
    for path in ("/predict", "/v1/completions"):
        response = await client.post(
            path,
            content=b'{"\\ud800": {}, "target": "t"}',
            headers={"content-type": "application/json"},
        )
        assert response.status_code in (404, 422)


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
