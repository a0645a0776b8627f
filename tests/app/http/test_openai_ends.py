"""Chats that end early: past their deadline, at the end of a drain, or because the client left."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from app.engine.base import OpenAIAnswer, OpenAIAPI
from app.engine.fake import FakeEngine
from tests.app.http.test_overload import code, running
from tests.support.waiting import HANG_S

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
STREAM = CHAT | {"stream": True}
CHUNK = 'data: {"choices": []}\n\n'


class Endless:
    """A whole answer never comes; a stream goes on for ever."""

    def __init__(self) -> None:
        self.streaming = 0

    async def chat(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer:
        if not body.get("stream"):
            await asyncio.Event().wait()
        return self.chunks()

    complete = chat

    async def chunks(self) -> AsyncIterator[str]:
        self.streaming += 1
        try:
            while True:
                yield CHUNK
                await asyncio.sleep(0.05)
        finally:
            self.streaming -= 1


class EndlessEngine(FakeEngine):
    def __init__(self) -> None:
        super().__init__()
        self.api = Endless()

    @property
    def openai(self) -> OpenAIAPI:  # type: ignore[override]
        return self.api


def counted(status: int, path: str = "/v1/chat/completions") -> float:
    labels = {"method": "POST", "route": path, "status": str(status)}
    labels["model"] = "smollm2-135m-instruct"
    return REGISTRY.get_sample_value("frontpage_requests_total", labels) or 0.0


def deadlines() -> float:
    return REGISTRY.get_sample_value("frontpage_deadline_exceeded_total") or 0.0


def last_error(text: str) -> Any:
    """The error in the last event of a stream that began well."""
    *events, last = text.strip().split("\n\n")
    assert len(events) >= 2
    assert set(events) == {CHUNK.strip()}
    return json.loads(last.removeprefix("data: "))["error"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_past_its_deadline_a_chat_is_504_and_a_stream_says_so(
    tmp_path: Path, path: str
) -> None:
    engine, before = EndlessEngine(), deadlines()
    async with running(engine, tmp_path, timeout_ms=300) as (client, server, _):
        whole = await client.post(path, json={**CHAT, "prompt": "x"})
        assert code(whole) == (504, "deadline_exceeded")
        stream = await client.post(path, json={**STREAM, "prompt": "x"})
        assert stream.status_code == 200
        error = last_error(stream.text)
        assert error["code"] == "deadline_exceeded"
        assert error["type"] == "timeout"
        assert error["request_id"] == stream.headers["x-request-id"]
        assert deadlines() - before == 2
        assert engine.api.streaming == 0
        assert server.admission.requests == server.admission.tokens == 0


async def test_the_end_of_a_drain_is_a_503_and_a_stream_says_so(tmp_path: Path) -> None:
    async with running(EndlessEngine(), tmp_path, drain_s=0.5) as (client, server, ended):
        whole = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        stream = asyncio.create_task(client.post("/v1/chat/completions", json=STREAM))
        while server.admission.requests < 2:
            await asyncio.sleep(0.01)
        server.handle_exit(signal.SIGTERM, None)
        server._captured_signals.clear()  # uvicorn would raise it again, in the test's process
        assert code(await whole) == (503, "engine_unavailable")
        assert last_error((await stream).text)["code"] == "engine_unavailable"
        await asyncio.wait_for(ended, HANG_S)


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_client_that_leaves_is_a_499(tmp_path: Path, body: dict[str, Any]) -> None:
    engine, before = EndlessEngine(), counted(499)
    async with running(engine, tmp_path) as (client, server, _):
        with suppress(httpx.ReadTimeout):
            request = client.stream("POST", "/v1/chat/completions", json=body, timeout=0.3)
            async with request as response:
                async for _ in response.aiter_text():
                    break
        async with asyncio.timeout(HANG_S):
            while server.admission.requests:
                await asyncio.sleep(0.01)
        assert counted(499) - before == 1
        assert engine.api.streaming == 0


async def test_a_client_that_stays_is_not(tmp_path: Path) -> None:
    """The server tells of a disconnect after a whole answer, too."""
    before = counted(499, "/predict"), counted(200, "/predict")
    async with running(FakeEngine(), tmp_path) as (client, _, _):
        for _ in range(20):
            header = {"connection": "close"}
            answer = await client.post("/predict", json={"target": "t"}, headers=header)
            assert answer.status_code == 200
    assert counted(499, "/predict") == before[0]
    assert counted(200, "/predict") - before[1] == 20
