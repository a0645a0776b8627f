"""Send requests, and say what is wrong with their answers."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx

from tests.fuzz.mutations import Request, make_request

AT_ONCE = 4
DEADLINE_MS = 4000
NO_ANSWER_S = 300.0  # No machine is so slow: the request hangs.
HEADERS = {"Content-Type": "application/json", "X-Request-Timeout-Ms": str(DEADLINE_MS)}
OUTAGES = {"overloaded", "deadline_exceeded"}
"""Codes that a client may get with a 5xx although nothing is broken: later, or with less, it
would get an answer."""


async def run(
    client: httpx.AsyncClient, seed: int, numbers: Iterable[int]
) -> tuple[Counter[int], int]:
    """Send the requests of these numbers, a few at once, and print those at fault. Returns how many
    answers there were by status, and how many requests were at fault."""
    statuses: Counter[int] = Counter()
    waiting = iter(numbers)
    faults = 0

    async def work() -> None:
        nonlocal faults
        for number in waiting:
            request = make_request(seed, number)
            status, wrong = await send(client, request)
            statuses[status] += 1
            if wrong:
                faults += 1
                print(f"#{number} {status} {wrong[:300]!r}  {request.line}", flush=True)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return statuses, faults


async def send(client: httpx.AsyncClient, request: Request) -> tuple[int, str]:
    """Returns the status and what is wrong with the answer, "" if nothing is.

    While the service is busy with other requests, it is sent again. The status is 0 if there was no
    answer.
    """
    try:
        async with asyncio.timeout(NO_ANSWER_S):
            while True:
                answer = await client.request(
                    request.method, request.path, content=request.body, headers=HEADERS
                )
                if answer.status_code != 503 or '"overloaded"' not in answer.text:
                    break
                await asyncio.sleep(int(answer.headers["retry-after"]))
    except TimeoutError:
        return 0, "no answer"
    except httpx.TransportError as error:
        return 0, f"the connection broke: {error!r}"
    return answer.status_code, complaint(answer)


def complaint(answer: httpx.Response) -> str:
    """What no client should get: a fault of ours, an error without OpenAI's shape, or JSON that
    isn't JSON."""
    streamed = answer.headers.get("content-type", "").startswith("text/event-stream")
    try:
        parts = events(answer.text) if streamed else [parse(answer.text)]
        errors = [part["error"] for part in parts if "error" in part]
        wrong = [error for error in errors if error["code"] not in OUTAGES]
        if answer.status_code >= 500 or streamed:
            wrong = [error for error in wrong if status_of(answer, error) >= 500]
            return str(wrong[0]["message"]) if wrong else ""
        return "" if answer.status_code < 400 or errors[0]["message"] else "an error without text"
    except (ValueError, LookupError, TypeError) as error:
        return f"{error!r} in {answer.text[:200]!r}"


def status_of(answer: httpx.Response, error: dict[str, Any]) -> int:
    """An error within a stream bears a status of its own, as its code."""
    return error["code"] if isinstance(error["code"], int) else max(answer.status_code, 500)


def events(text: str) -> list[Any]:
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    return [parse(line[6:]) for line in lines if line != "data: [DONE]"]


def parse(text: str) -> Any:
    """Strict JSON: Python's parser would take NaN and Infinity too. Raises ValueError."""
    return json.loads(text, parse_constant=refuse)


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
