"""What Ray's HTTP proxies answer by themselves, in the service's shape."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.ray.proxy import OwnShape
from tests.support.servers import client_of


async def ask_proxy(
    answer: Callable[[Scope, Receive, Send], Any], **headers: str
) -> httpx.Response:
    """Through the middleware, as Ray's proxy runs it, around an application that is the proxy."""
    async with client_of(OwnShape(answer)) as client:
        return await client.get("/", headers=headers)


def answering(status: int, *ids: str) -> Callable[[Scope, Receive, Send], Any]:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-request-id", one.encode()) for one in ids]
        start: Message = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": b"plain"})

    return answer


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        (404, 503, "engine_unavailable"),
        (500, 503, "engine_unavailable"),
        (503, 503, "overloaded"),
        (429, 503, "overloaded"),
        (408, 504, "deadline_exceeded"),
    ],
)
async def test_rays_own_errors_get_our_shape(status: int, expected: int, code: str) -> None:
    answer = await ask_proxy(answering(status, "ray"), **{"X-Request-Id": "mine"})
    assert answer.status_code == expected
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["request_id"] == "mine"
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert ("retry-after" in answer.headers) is (expected == 503)


async def test_a_replicas_answer_and_rays_health_pass_through() -> None:
    for status in (200, 503):
        answer = await ask_proxy(answering(status, "mine", "mine"), **{"X-Request-Id": "mine"})
        assert (answer.status_code, answer.text) == (status, "plain")
        assert answer.headers.get_list("x-request-id") == ["mine"]
    assert (await ask_proxy(answering(200, "ray"))).text == "plain"


async def test_a_request_without_an_answer_is_a_503() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a replica died")

    for lost in (silent, failing):
        answer = await ask_proxy(lost)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "a replica died" not in answer.text


async def test_the_deadline_holds_for_rays_queue_too() -> None:
    seen: dict[str, str] = {}

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update({name.decode(): value.decode() for name, value in scope["headers"]})

    await ask_proxy(note, **{"X-Request-Timeout-Ms": "250", "X-Request-Id": "not an id!"})
    assert float(seen["x-request-timeout-seconds"]) == pytest.approx(0.75)
    assert " " not in seen["x-request-id"]
