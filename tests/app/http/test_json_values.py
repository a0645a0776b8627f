"""Text and numbers that JSON allows and no engine can hold, in every kind of body."""

import json
from typing import Any

import httpx
import pytest

from app.errors import BadRequest
from app.http.json_values import MAX_DEPTH, check_encodable

HALF = "\ud83d"
JSON = {"content-type": "application/json"}
Json = dict[str, Any]


def nested(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stop": [HALF]}, "stop.0"),
        ({"messages": [{"role": "user", "content": [{"text": f"a{HALF}b"}]}]}, None),
        ({"logit_bias": {HALF: 1}}, f"logit_bias.{HALF}"),
        ({"top_k": 10**30}, "top_k"),
        ({"prompt": [[1, 2], [3, -(2**63) - 1]]}, "prompt.1.1"),
        ({"seed": 2**63}, "seed"),
        ({"temperature": float("inf")}, "temperature"),
        ({"vllm_xargs": {"a": [0.5, float("nan")]}}, "vllm_xargs.a.1"),
        ({"a": nested(MAX_DEPTH)}, ".".join(["a", *["0"] * (MAX_DEPTH - 1)])),
    ],
)
def test_what_cannot_be_encoded_is_named(body: Json, param: str | None) -> None:
    with pytest.raises(BadRequest) as wrong:
        check_encodable(body)
    assert wrong.value.param == (param or "messages.0.content.0.text")
    assert wrong.value.message.startswith(str(wrong.value.param))


@pytest.mark.parametrize(
    "body",
    [
        {"stop": ["\U0001f600", "\x00", ""]},
        {"seed": 2**63 - 1, "top_k": -(2**63), "n": True, "x": None, "p": 1e308},
        {"a": nested(MAX_DEPTH - 1)},
    ],
)
def test_what_can_be_encoded_passes(body: Json) -> None:
    check_encodable(body)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/predict", {"target": HALF}, "target.title"),
        ("/predict", {"target": {"title": "t", "category": HALF}}, "target.category"),
        ("/predict", {"target": "t", "history": ["a", f"b{HALF}"]}, "history.1.title"),
        ("/predict", {"target": "t", "reader_id": HALF}, "reader_id"),
        ("/rank", {"candidates": ["t", {"id": HALF, "title": "u"}]}, "candidates.1.id"),
        ("/recommend", {"exclude": ["a", HALF]}, "exclude.1"),
        ("/recommend", {"categories": [HALF]}, "categories.0"),
        ("/predict/batch", {"pairs": [{"target": "t", "liked": [HALF]}]}, "pairs.0.liked.0.title"),
        ("/feedback", {"id": HALF, "clicked": True}, "id"),
        ("/feedback", {"id": "a", "index": 10**30, "clicked": True}, "index"),
    ],
)
async def test_our_own_routes_name_it_too(
    client: httpx.AsyncClient, path: str, body: Json, param: str
) -> None:
    answer = await client.post(path, content=json.dumps(body), headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == param


async def test_a_huge_top_k_returns_all(client: httpx.AsyncClient) -> None:
    answer = await client.post("/rank", json={"candidates": ["a", "b"], "top_k": 10**30})
    assert len(answer.json()["results"]) == 2


@pytest.mark.parametrize(("path", "status"), [("/predict", 422), ("/v1/completions", 400)])
async def test_a_body_nested_beyond_the_parser_is_told_so(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    answer = await client.post(path, content=b'{"target": ' + deep + b"}", headers=JSON)
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == "the body is nested too deeply"
