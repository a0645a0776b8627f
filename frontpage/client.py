"""A client of the service: `Client`, and the same for asyncio, `AsyncClient`.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.rank(["Stocks fall", "Cup final"], history=["Late comeback"], timeout_s=0.5)

A call that the service refuses with 429 or 503, or whose connection is refused, is tried again
after the seconds of `Retry-After` and a random delay, as long as the call's deadline allows. A
deadline counts all attempts, and each tells the service how much of it is left. Errors are those of
frontpage/errors.py. docs/client.md has more.
"""

import os
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from tenacity import AsyncRetrying, Retrying

from frontpage import calls
from frontpage.calls import Call
from frontpage.errors import (
    AccessDenied,
    Conflict,
    DeadlineExceeded,
    FrontpageError,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unavailable,
    Unreachable,
    error_of,
    error_without_answer,
    misread,
)
from frontpage.retries import retries

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "FrontpageError",
    "InvalidRequest",
    "NotFound",
    "RateLimited",
    "Unavailable",
    "Unreachable",
]

URL = "http://127.0.0.1:8000"
MAX_MS = 99_999_999
"""The longest deadline that the service can be told."""

P = ParamSpec("P")
Answer = TypeVar("Answer", bound=BaseModel)


def blocking(
    build: Callable[P, Call[Answer]],
) -> Callable[Concatenate["Client", P], Answer]:
    """The method of Client that sends what `build` makes of its arguments."""

    @wraps(build)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return self.send(build(*args, **kwargs))

    return method


def awaited(
    build: Callable[P, Call[Answer]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, Answer]]:
    """The method of AsyncClient that sends what `build` makes of its arguments."""

    @wraps(build)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> Answer:
        return await self.send(build(*args, **kwargs))

    return method


class Client:
    """Calls the service at `url`. Threads may share a client.

    api_key: by default that in OPENAI_API_KEY, if any. timeout_s: the deadline of calls that name
    none. attempts: how often a call is sent at most. transport: in place of httpx's own.
    """

    def __init__(
        self,
        url: str = URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        attempts: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._timeout_s, self._attempts = timeout_s, attempts
        self._http = httpx.Client(base_url=url, headers=headers(api_key), transport=transport)

    predict = blocking(calls.predict)
    predict_batch = blocking(calls.predict_batch)
    rank = blocking(calls.rank)
    recommend = blocking(calls.recommend)
    give_feedback = blocking(calls.give_feedback)
    post_events = blocking(calls.post_events)
    put_stories = blocking(calls.put_stories)
    get_story = blocking(calls.get_story)
    delete_story = blocking(calls.delete_story)
    get_reader = blocking(calls.get_reader)
    delete_reader = blocking(calls.delete_reader)
    list_adapters = blocking(calls.list_adapters)
    load_adapter = blocking(calls.load_adapter)
    unload_adapter = blocking(calls.unload_adapter)
    list_aliases = blocking(calls.list_aliases)
    set_alias = blocking(calls.set_alias)
    remove_alias = blocking(calls.remove_alias)
    experiments = blocking(calls.experiments)

    def send(self, call: Call[Answer]) -> Answer:
        """Send a call until it is answered. Raises FrontpageError."""
        timeout_s = deadline(call, self._timeout_s)
        due = time.monotonic() + timeout_s

        def attempt() -> Answer:
            request = request_of(self._http, call, due)
            try:
                return read(call, self._http.send(request))
            except httpx.TransportError as error:
                raise error_without_answer(error, request.url) from error

        return Retrying(**retries(self._attempts, timeout_s))(attempt)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """Client, for asyncio: the same calls, to be awaited."""

    def __init__(
        self,
        url: str = URL,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        attempts: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_s, self._attempts = timeout_s, attempts
        self._http = httpx.AsyncClient(base_url=url, headers=headers(api_key), transport=transport)

    predict = awaited(calls.predict)
    predict_batch = awaited(calls.predict_batch)
    rank = awaited(calls.rank)
    recommend = awaited(calls.recommend)
    give_feedback = awaited(calls.give_feedback)
    post_events = awaited(calls.post_events)
    put_stories = awaited(calls.put_stories)
    get_story = awaited(calls.get_story)
    delete_story = awaited(calls.delete_story)
    get_reader = awaited(calls.get_reader)
    delete_reader = awaited(calls.delete_reader)
    list_adapters = awaited(calls.list_adapters)
    load_adapter = awaited(calls.load_adapter)
    unload_adapter = awaited(calls.unload_adapter)
    list_aliases = awaited(calls.list_aliases)
    set_alias = awaited(calls.set_alias)
    remove_alias = awaited(calls.remove_alias)
    experiments = awaited(calls.experiments)

    async def send(self, call: Call[Answer]) -> Answer:
        """Send a call until it is answered. Raises FrontpageError."""
        timeout_s = deadline(call, self._timeout_s)
        due = time.monotonic() + timeout_s

        async def attempt() -> Answer:
            request = request_of(self._http, call, due)
            try:
                return read(call, await self._http.send(request))
            except httpx.TransportError as error:
                raise error_without_answer(error, request.url) from error

        return await AsyncRetrying(**retries(self._attempts, timeout_s))(attempt)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def headers(api_key: str | None) -> dict[str, str]:
    key = os.environ.get("OPENAI_API_KEY") if api_key is None else api_key
    return {"Authorization": f"Bearer {key}"} if key else {}


def deadline(call: Call[Any], usual_s: float) -> float:
    """How many seconds a call may take. Raises ValueError."""
    timeout_s = usual_s if call.timeout_s is None else call.timeout_s
    if not timeout_s > 0:
        raise ValueError(f"timeout_s must be more than 0, not {timeout_s}")
    return timeout_s


def request_of(
    http: httpx.Client | httpx.AsyncClient, call: Call[Any], due: float
) -> httpx.Request:
    """The request, with what is left of the call's time. due: as by time.monotonic()."""
    left_s = max(due - time.monotonic(), 0.001)
    return http.build_request(
        call.method,
        call.path,
        params=call.query or None,
        content=None if call.body is None else to_json(call.body),
        headers={
            "Content-Type": "application/json",
            "X-Request-Timeout-Ms": str(min(round(left_s * 1e3), MAX_MS)),
        },
        timeout=left_s,
    )


def read(call: Call[Answer], response: httpx.Response) -> Answer:
    """The answer. Raises FrontpageError if it is an error, or not the service's."""
    if not response.is_success:
        raise error_of(response)
    try:
        return call.answer.model_validate_json(response.content)
    except ValidationError:
        raise misread(response, call.answer) from None
