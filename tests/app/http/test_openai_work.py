"""What a chat holds while it is answered, on an engine whose answers can be held back."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.engine.base import OpenAIAnswer, OpenAIAPI
from app.engine.fake import FakeEngine
from app.service import Service
from tests.support.waiting import HANG_S


class SlowStream:
    """Its first chunk never comes."""

    async def chat(self, body: dict[str, Any], headers: Mapping[str, str]) -> OpenAIAnswer:
        return self.chunks()

    complete = chat

    async def chunks(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""


class ChattingEngine(FakeEngine):
    @property
    def openai(self) -> OpenAIAPI:  # type: ignore[override]
        return SlowStream()


@pytest.fixture
def engine() -> FakeEngine:
    return ChattingEngine()


@pytest.mark.parametrize("stalled_at", ["http.response.start", "http.response.body"])
async def test_a_stream_cancelled_before_its_first_chunk_gives_all_back(
    app: FastAPI, stalled_at: str
) -> None:
    service: Service = app.state.service
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 400}], "stream": True})
    sent, stalled = iter([body.encode()]), asyncio.Event()

    async def receive() -> Message:
        chunk = next(sent, None)
        if chunk is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": chunk, "more_body": False}

    async def send(message: Message) -> None:
        stalled.set()
        if message["type"] == stalled_at:  # a client that reads nothing
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    answering = asyncio.create_task(app(scope, receive, send))
    await stalled.wait()
    await asyncio.sleep(0)
    assert service.admission.tokens > 100
    assert service.admission.requests == 1
    model = service.models.base
    idle = asyncio.create_task(service.models.until_idle(model))
    await asyncio.sleep(0)
    assert not idle.done()

    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert service.admission.tokens == service.admission.requests == 0
    await asyncio.wait_for(idle, HANG_S)
