"""VllmOpenAI around serving code of vLLM that fails where the real one can't be made to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from app.engine.base import OpenAIAPI
from app.errors import BadRequest, EngineUnavailable, Overloaded, ServiceError

# Of torch, when vLLM imports it.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
BODY = {"prompt": "x", "max_tokens": 2}
Serving = Callable[..., Any]


def api(serving: Serving, errored: bool = False) -> OpenAIAPI:
    from app.engine.openai import VllmOpenAI

    state: Any = SimpleNamespace(
        openai_serving_completion=SimpleNamespace(create_completion=serving)
    )
    return VllmOpenAI(SimpleNamespace(errored=errored), state)


def raising(error: BaseException, cause: BaseException | None = None) -> Serving:
    async def serving(*_: Any) -> Any:
        raise error from cause

    return serving


def streaming(*events: str) -> Serving:
    async def chunks() -> AsyncIterator[str]:
        for event in events:
            yield event

    async def serving(*_: Any) -> Any:
        return chunks()

    return serving


async def test_a_cancelled_request_ends_though_vllm_answers() -> None:
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse

    asked = asyncio.Event()

    async def serving(*_: Any) -> Any:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            error = {"message": "Client disconnected", "type": "BadRequestError", "code": 400}
            return ErrorResponse.model_validate({"error": error})

    asking = asyncio.create_task(api(serving).complete(BODY, {}))
    await asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_only_a_dead_engine_has_died() -> None:
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    with pytest.raises(EngineUnavailable, match="the engine has died"):
        await api(raising(EngineDeadError()), errored=True).complete(BODY, {})
    with pytest.raises(EngineUnavailable, match="the engine has died"):
        await api(raising(EngineGenerateError()), errored=True).complete(BODY, {})
    unreadable = raising(EngineGenerateError(), OverflowError("integer too large"))
    with pytest.raises(BadRequest, match="integer too large"):
        await api(unreadable).complete(BODY, {})
    with pytest.raises(EngineGenerateError):  # a fault of ours, for the log
        await api(raising(EngineGenerateError(), RuntimeError())).complete(BODY, {})


async def test_a_stream_that_fails_at_once_is_an_error_of_its_own() -> None:
    invalid = 'data: {"error": {"message": "no (parameter=a, value=1)", "param": "a", "code": 400}}'
    with pytest.raises(BadRequest, match=r"^no$") as wrong:
        await api(streaming(invalid + "\n\n")).complete(BODY, {})
    assert wrong.value.param == "a"
    failed = 'data: {"error": {"message": "Internal server error", "param": null, "code": 500}}'
    with pytest.raises(ServiceError) as fault:
        await api(streaming(failed)).complete(BODY, {})
    assert type(fault.value) is ServiceError
    constrained = {**BODY, "structured_outputs": {"grammar": "root ::= root"}}
    with pytest.raises(BadRequest) as impossible:
        await api(streaming(failed)).complete(constrained, {})
    assert impossible.value.param == "structured_outputs"
    with pytest.raises(EngineUnavailable):
        await api(streaming(failed), errored=True).complete(BODY, {})
    full = 'data: {"error": {"message": "busy", "param": null, "code": 503}}'
    with pytest.raises(Overloaded):
        await api(streaming(full)).complete(BODY, {})


async def test_a_stream_that_begins_well_is_passed_on_whole() -> None:
    events = ["data: 1\n\n", 'data: {"error": {}}\n\n', "data: [DONE]\n\n"]
    answer: Any = await api(streaming(*events)).complete(BODY, {})
    assert [event async for event in answer] == events


async def test_a_priority_beyond_64_bits_does_not_reach_vllm() -> None:
    seen: list[str | None] = []

    async def serving(_: Any, request: Any) -> Any:
        seen.append(request.headers.get("X-Vllm-Priority"))
        raise ValueError

    for sent in ("-7", "9" * 30):
        with pytest.raises(BadRequest):
            await api(serving).complete(BODY, {"X-Vllm-Priority": sent})
    assert seen == ["-7", None]


async def test_a_request_that_cannot_be_sent_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM registers it first."""
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.parallel_sampling import ParentRequest

    from app.engine.async_llm import TidyLLM

    async def fail(*_: Any, **__: Any) -> None:
        raise OverflowError

    forgotten: list[str] = []

    async def abort(_: Any, request_id: str, internal: bool) -> None:
        assert internal
        forgotten.append(request_id)

    monkeypatch.setattr(AsyncLLM, "_add_request", fail)
    monkeypatch.setattr(AsyncLLM, "abort", abort)
    llm = object.__new__(TidyLLM)
    monkeypatch.setattr(TidyLLM, "__del__", lambda _: None)
    request, parent = SimpleNamespace(request_id="one"), object.__new__(ParentRequest)
    parent.request_id = "all"
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("one", ("prompt", None, 0, None), {}),
        ("all", ("prompt", parent, 0, None), {}),
        ("all", ("prompt",), {"parent_req": parent, "index": 0, "queue": None}),
    ]
    for expected, rest, named in calls:
        with pytest.raises(OverflowError):
            await llm._add_request(request, *rest, **named)
        assert forgotten.pop() == expected
