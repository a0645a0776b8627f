"""Admission, deadlines, the orderly end and the event loop's lag, on the fake engine."""

import asyncio
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client import REGISTRY

from app.engine.base import LabelScore
from app.engine.fake import FakeEngine
from app.errors import EngineUnavailable
from app.main import create_app
from app.scoring.encoder import Encoder
from app.scoring.prompt import Prompt
from app.server import Server
from app.settings import Limits, Settings
from loadtests.services import free_port
from tests.support.models import SMOLLM2
from tests.support.waiting import HANG_S, HeldEngine, until

TARGET = {"target": "Tesla unveils a car"}


@asynccontextmanager
async def running(
    engine: FakeEngine,
    state: Path,
    drain_s: float = HANG_S,
    engine_restarts: int = 3,
    **limits: Any,
) -> AsyncIterator[tuple[httpx.AsyncClient, Server, asyncio.Task[None]]]:
    """A service that a held engine keeps busy, but not while it starts."""
    settings = Settings(
        model=SMOLLM2,
        state=state,
        drain_s=drain_s,
        engine_restarts=engine_restarts,
        limits=Limits(**limits),
    )
    app = create_app(settings, engine)
    async with app.router.lifespan_context(app):
        port = free_port()
        config = uvicorn.Config(app, port=port, lifespan="off", log_config=None)
        server = Server(config, app.state.service)
        ended = asyncio.create_task(server.run_until_end())
        await until(lambda: server.started)
        if isinstance(engine, HeldEngine):
            engine.hold()
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=HANG_S) as client:
            yield client, server, ended
        server.should_exit = True
        await ended


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def counted(reason: str) -> float:
    found = REGISTRY.get_sample_value("frontpage_refused_total", {"reason": reason})
    return found or 0.0


async def test_more_requests_than_allowed_are_refused_at_once(tmp_path: Path) -> None:
    engine = HeldEngine()
    before = counted("requests")
    async with running(engine, tmp_path, max_pending_requests=4) as (client, _, _):
        asking = [asyncio.create_task(client.post("/predict", json=TARGET)) for _ in range(12)]
        await until(lambda: sum(one.done() for one in asking) == 8)  # while four are at work
        refused = [await one for one in asking if one.done()]
        assert {code(answer) for answer in refused} == {(503, "overloaded")}
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert counted("requests") - before == 8
        assert (await client.get("/health")).status_code == 200  # not work: never refused
        engine.release()
        good = [answer for one in asking if (answer := await one) not in refused]
        assert [answer.status_code for answer in good] == [200] * 4
        assert (await client.post("/predict", json=TARGET)).status_code == 200


async def test_prompt_tokens_are_bounded_and_a_shared_prefix_counts_once(tmp_path: Path) -> None:
    engine = HeldEngine()
    async with running(engine, tmp_path, max_pending_tokens=400) as (client, server, _):
        many = {"candidates": [f"story number {number}" for number in range(200)]}
        alone = asyncio.create_task(client.post("/rank", json=many))  # larger than the limit
        await until(lambda: engine.running > 0)
        assert 400 < server.admission.tokens < 200 * 60
        assert code(await client.post("/predict", json=TARGET)) == (503, "overloaded")
        engine.release()
        assert (await alone).status_code == 200
        assert server.admission.tokens == 0
        assert (await client.post("/predict", json=TARGET)).status_code == 200


async def test_a_refusal_does_not_wait_for_the_body(tmp_path: Path) -> None:
    engine = HeldEngine()
    async with running(engine, tmp_path, max_pending_requests=1) as (client, _, _):
        at_work = asyncio.create_task(client.post("/predict", json=TARGET))
        await until(lambda: engine.running == 1)

        host = client.base_url
        reader, writer = await asyncio.open_connection(host.host, host.port)
        writer.write(
            # and no body
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        )
        assert b" 503 " in await asyncio.wait_for(reader.readline(), HANG_S)
        writer.close()
        engine.release()
        assert (await at_work).status_code == 200


async def test_a_deadline_ends_the_work(tmp_path: Path) -> None:
    engine = HeldEngine()
    async with running(engine, tmp_path, timeout_ms=400) as (client, server, _):
        for header, limit in (({"X-Request-Timeout-Ms": "100"}, 0.1), ({}, 0.4)):
            started = time.monotonic()
            answer = await client.post("/predict", json=TARGET, headers=header)
            assert code(answer) == (504, "deadline_exceeded")
            assert limit <= time.monotonic() - started
        await until(lambda: engine.running == 0)
        assert server.admission.requests == server.admission.tokens == 0
        header = {"X-Request-Timeout-Ms": f"{HANG_S:.0f}000"}
        longer = asyncio.create_task(client.post("/predict", json=TARGET, headers=header))
        await until(lambda: engine.running == 1)
        await asyncio.sleep(0.6)  # beyond the default
        engine.release()
        assert (await longer).status_code == 200


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "999999999", ""])
async def test_bad_deadlines_are_named(client: httpx.AsyncClient, value: str) -> None:
    header = {"X-Request-Timeout-Ms": value}
    answer = await client.post("/predict", json=TARGET, headers=header)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-request-timeout-ms"


async def test_sigterm_ends_what_is_at_work_and_takes_nothing_new(tmp_path: Path) -> None:
    engine = HeldEngine()
    async with running(engine, tmp_path) as (client, server, ended):
        at_work = asyncio.create_task(client.post("/predict", json=TARGET))
        await until(lambda: engine.running == 1)
        server.handle_exit(signal.SIGTERM, None)
        ready = await client.get("/ready")
        assert ready.status_code == 503
        assert code(await client.post("/predict", json=TARGET)) == (503, "overloaded")
        assert (await client.get("/health")).status_code == 200
        engine.release()
        assert (await at_work).status_code == 200
        await asyncio.wait_for(ended, HANG_S)
        assert server.failure is None


@pytest.mark.parametrize("signals", [1, 2])
async def test_the_drain_has_an_end(tmp_path: Path, signals: int) -> None:
    """By its time, or by a second signal."""
    engine = HeldEngine()
    drain_s = 0.5 if signals == 1 else HANG_S
    async with running(engine, tmp_path, drain_s=drain_s) as (client, server, ended):
        at_work = asyncio.create_task(client.post("/predict", json=TARGET))
        await until(lambda: engine.running == 1)
        for _ in range(signals):
            server.handle_exit(signal.SIGTERM, None)
        server._captured_signals.clear()  # uvicorn would raise it again, in the test's process
        assert code(await at_work) == (503, "engine_unavailable")
        await asyncio.wait_for(ended, HANG_S)


async def test_a_dead_engine_is_told_and_ends_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.server.LAST_ANSWERS_S", 5.0)
    engine = FakeEngine()
    async with running(engine, tmp_path, engine_restarts=0) as (client, server, ended):
        engine.dead = True
        await until(lambda: REGISTRY.get_sample_value("frontpage_engine_up") == 0)
        assert code(await client.get("/health")) == (503, "engine_unavailable")
        assert code(await client.post("/predict", json=TARGET)) == (503, "engine_unavailable")
        await asyncio.wait_for(ended, HANG_S)
        assert isinstance(server.failure, EngineUnavailable)


class Instant(FakeEngine):
    """Without the fake's own work, which would stall the event loop."""

    def _score(self, prompt: Prompt, adapter: str | None) -> LabelScore:
        return LabelScore(-1.0, -1.0, 1, 0)


async def test_large_requests_do_not_stall_others(tmp_path: Path) -> None:
    """While a thousand long, new titles are tokenized, the event loop's own thread does little at a
    stretch, compared with tokenizing them there. Its processor time is counted, which does not
    depend on what else the machine does."""
    encoder = Encoder(SMOLLM2 / "tokenizer.json")
    longest = []  # of each turn; the median, since a garbage collection may fall into one
    async with running(Instant(), tmp_path) as (client, _, _):
        for turn in range(9):
            stretches: list[float] = []
            ticking = asyncio.create_task(tick(stretches))
            answer = await client.post("/rank", json={"candidates": titles(turn), "top_k": 10})
            assert answer.status_code == 200
            ticking.cancel()
            longest.append(max(stretches))
    started = time.thread_time()
    for title in titles(9):
        encoder.data(title)
    assert statistics.median(longest) < (time.thread_time() - started) / 3


async def tick(stretches: list[float]) -> None:
    """Note how long this thread computes between two turns of its event loop."""
    while True:
        started = time.thread_time()
        await asyncio.sleep(0)
        stretches.append(time.thread_time() - started)


def titles(turn: int) -> list[str]:
    return [f"{turn} {number} " + "economy grows again " * 20 for number in range(1000)]
