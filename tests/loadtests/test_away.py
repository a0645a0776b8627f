"""loadtests.away without an engine: the first answer, a loss, and the end."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from loadtests import away
from loadtests.away import as_json, measure
from loadtests.services import LoadTestError, free_port

ANSWER = {"degraded": False}
DEGRADED = {"degraded": True}


@asynccontextmanager
async def answering(kinds: Iterator[web.Response]) -> AsyncIterator[str]:
    """A service that gives one answer after the other."""

    async def rank(_: web.Request) -> web.Response:
        await asyncio.sleep(0)
        return next(kinds)

    app = web.Application()
    app.router.add_post("/rank", rank)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "PAUSE_S", 0.0)
    monkeypatch.setattr(away, "STEADY_S", 0.2)


async def test_answers_are_counted_by_kind_and_the_loss_lasts_until_a_full_one() -> None:
    lost = asyncio.Event()

    def kinds() -> Iterator[web.Response]:
        for _ in range(3):
            yield web.json_response(DEGRADED)
        while not lost.is_set():
            yield web.json_response(ANSWER)
        for _ in range(5):
            yield web.json_response(DEGRADED)
        yield web.json_response({}, status=503)
        while True:
            yield web.json_response(ANSWER)

    async with answering(kinds()) as url:
        found = await measure(url, 2, lost.set, lambda: True)
    assert 0 < found.first_answer_s < found.language_model_s
    assert found.back_s > 0
    assert (found.answers["degraded"], found.answers["503"]) == (5, 1)
    assert found.answers["full"] > 2
    assert json.loads(as_json(found, "abc"))["answers"] == found.answers
    assert len(found.load) == 2


async def test_a_service_that_ends_is_named() -> None:
    with pytest.raises(LoadTestError, match="has ended"):
        await measure("http://127.0.0.1:9", 1, lambda: None, lambda: False)
