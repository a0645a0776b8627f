"""When the client tries again, how long it waits, and which key it sends."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tenacity import RetryCallState, Retrying, wait_none

from app.settings import Limits, Settings
from frontpage import retries
from frontpage.client import (
    AccessDenied,
    AsyncClient,
    Client,
    DeadlineExceeded,
    FrontpageError,
    RateLimited,
    Unavailable,
    Unreachable,
)
from loadtests.services import free_port
from tests.support.keys import SECRETS, key, refused
from tests.support.models import SMOLLM2
from tests.support.servers import serving
from tests.support.waiting import HANG_S, HeldEngine, until

PROBABLE = {
    **{"id": "a", "model": "m", "latency_ms": 1, "ranker": False, "degraded": False},
    **{"usage": {"prompt_tokens": 1, "cached_tokens": 0}, "probability": 0.5, "stage": "text"},
    **{"text_probability": 0.5, "label": "Yes.", "label_mass": 1.0, "history_used": 0},
}
Refusal = tuple[int, str | None] | Exception
"""A status and `Retry-After`, or what breaks the connection."""
Predict = Callable[..., object]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """One request at once, and few a minute for one of the keys."""
    return Settings(
        model=SMOLLM2,
        state=tmp_path / "state",
        api_keys=(
            key("predict", "predict"),
            key("admin", "admin"),
            key("slow", "predict", requests_per_minute=1),
        ),
        limits=Limits(max_pending_requests=1),
    )


class Refusals:
    """A service that refuses at first. It also notes how long each request may take."""

    def __init__(self, *refusals: Refusal) -> None:
        self._refusals = list(refusals)
        self.deadlines: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.deadlines.append(int(request.headers["x-request-timeout-ms"]))
        if not self._refusals:
            return httpx.Response(200, json=PROBABLE)
        refusal = self._refusals.pop(0)
        if isinstance(refusal, Exception):
            raise refusal
        status, retry_after = refusal
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return httpx.Response(status, headers=headers, text="<p>busy")


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "JITTER", wait_none())


@pytest.fixture(params=["Client", "AsyncClient"])
def predict(request: pytest.FixtureRequest) -> Predict:
    """Calls /predict of a service, on either client."""

    def call(service: Refusals, timeout_s: float = HANG_S, attempts: int = 4) -> object:
        transport = httpx.MockTransport(service)
        if request.param == "Client":
            with Client(transport=transport, attempts=attempts) as client:
                return client.predict("Cup final", timeout_s=timeout_s)

        async def ask() -> object:
            async with AsyncClient(transport=transport, attempts=attempts) as client:
                return await client.predict("Cup final", timeout_s=timeout_s)

        return asyncio.run(ask())

    return call


@pytest.mark.usefixtures("no_jitter")
def test_what_was_refused_is_sent_again(predict: Predict) -> None:
    service = Refusals((503, "0"), (429, "0"), httpx.ConnectError("refused"))
    predict(service)
    assert len(service.deadlines) == 4
    assert service.deadlines == sorted(service.deadlines, reverse=True)
    assert HANG_S * 1e3 - 60_000 < service.deadlines[-1] <= service.deadlines[0] <= HANG_S * 1e3


@pytest.mark.usefixtures("no_jitter")
@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((503, "0"), Unavailable),
        ((429, None), RateLimited),
        (httpx.ConnectError("refused"), Unreachable),
    ],
    ids=str,
)
def test_after_the_last_attempt_the_error_is_raised(
    predict: Predict, refusal: Refusal, kind: type[FrontpageError]
) -> None:
    service = Refusals(*[refusal] * 9)
    with pytest.raises(kind):
        predict(service, attempts=3)
    assert len(service.deadlines) == 3


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((500, "0"), FrontpageError),
        ((504, None), DeadlineExceeded),
        (httpx.ReadError("broken"), Unreachable),
        (httpx.ReadTimeout("late"), DeadlineExceeded),
        ((200, None), FrontpageError),
    ],
    ids=str,
)
def test_what_may_have_begun_is_not_sent_again(
    predict: Predict, refusal: Refusal, kind: type[FrontpageError]
) -> None:
    service = Refusals(refusal)
    with pytest.raises(kind) as raised:
        predict(service)
    assert type(raised.value) is kind
    assert len(service.deadlines) == 1


def test_no_attempt_begins_after_the_deadline(predict: Predict) -> None:
    """Retry-After would lead beyond it, so that the call ends at once."""
    service = Refusals((503, str(int(HANG_S))))
    with pytest.raises(Unavailable) as raised:
        predict(service, timeout_s=HANG_S / 2)
    assert raised.value.retry_after_s == HANG_S
    assert "busy" in raised.value.message
    assert len(service.deadlines) == 1


def test_clients_that_were_refused_together_come_back_apart() -> None:
    state = RetryCallState(Retrying(), None, (), {})
    error = Unavailable("busy", retry_after_s=5)
    state.set_exception((Unavailable, error, None))
    pauses = {retries.pause(state) for _ in range(20)}
    assert len(pauses) > 10
    assert 5 <= min(pauses) < max(pauses) <= 5.5


@pytest.mark.parametrize("timeout_s", [0, -1.0])
def test_a_deadline_is_in_the_future(predict: Predict, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        predict(Refusals(), timeout_s=timeout_s)


async def test_a_busy_service_is_asked_until_it_has_room(app: FastAPI, engine: HeldEngine) -> None:
    async with serving(app) as url, AsyncClient(url, api_key=SECRETS["predict"]) as client:
        engine.hold()
        first = asyncio.create_task(client.predict("Cup final", timeout_s=HANG_S))
        await until(lambda: engine.running > 0)
        before = refused("requests")
        second = asyncio.create_task(client.predict("Stocks fall", timeout_s=HANG_S))
        await until(lambda: refused("requests") > before)
        engine.release()
        assert 0 < (await first).probability < 1
        assert 0 < (await second).probability < 1


async def test_the_service_stops_work_at_the_calls_deadline(
    app: FastAPI, engine: HeldEngine
) -> None:
    transport = httpx.ASGITransport(app)  # has no time limit of its own
    engine.hold()
    async with AsyncClient(
        "http://localhost", api_key=SECRETS["predict"], transport=transport
    ) as client:
        with pytest.raises(DeadlineExceeded) as raised:
            await client.predict("Cup final", timeout_s=0.2)
    assert (raised.value.status, raised.value.code) == (504, "deadline_exceeded")
    assert engine.running == 0


async def test_the_key_is_the_arguments_or_the_environments(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS["predict"])
    async with serving(app) as url:
        async with AsyncClient(url) as reader:
            assert (await reader.predict("Cup final")).model == SMOLLM2.name
            with pytest.raises(AccessDenied) as raised:
                await reader.list_adapters()
            assert (raised.value.status, raised.value.code) == (403, "missing_scope")
        with Client(url, api_key=SECRETS["admin"]) as boss:
            assert (await asyncio.to_thread(boss.list_adapters)).adapters == []
        async with AsyncClient(url, api_key="") as stranger:
            with pytest.raises(AccessDenied) as raised:
                await stranger.predict("Cup final")
            assert (raised.value.status, raised.value.code) == (401, "invalid_api_key")


async def test_a_key_that_is_used_up_is_told(app: FastAPI) -> None:
    key = SECRETS["slow"]
    async with serving(app) as url, AsyncClient(url, api_key=key, attempts=1) as client:
        await client.predict("Cup final", timeout_s=HANG_S)
        with pytest.raises(RateLimited) as raised:
            await client.predict("Cup final", timeout_s=HANG_S)
    assert raised.value.code == "rate_limit_exceeded"
    assert raised.value.retry_after_s
    assert raised.value.retry_after_s >= 1


def test_a_service_that_is_not_there_is_unreachable() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, attempts=1) as client, pytest.raises(Unreachable, match=url):
        client.predict("Cup final")
