"""When the client sends a call again."""

from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from frontpage.errors import FrontpageError, RateLimited, Unavailable

JITTER = wait_random_exponential(multiplier=0.5, max=8)


def retries(attempts: int, timeout_s: float) -> dict[str, Any]:
    """How tenacity tries: as often, and as long, as is allowed."""
    return {
        "retry": retry_if_exception(is_refused),
        "wait": pause,
        "stop": stop_after_attempt(attempts) | stop_before_delay(timeout_s),
        "reraise": True,
    }


def is_refused(error: BaseException) -> bool:
    """Whether the service has not begun to do what it was asked."""
    refused = isinstance(error, RateLimited | Unavailable)
    return refused or isinstance(error.__cause__, httpx.ConnectError)


def pause(state: RetryCallState) -> float:
    """Seconds until the next attempt. They are random, so that clients that were refused together
    do not come back together."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, FrontpageError) else None
    return (asked or 0.0) + JITTER(state)
