"""What a client's call can raise."""

import httpx
from pydantic import BaseModel, ValidationError

from app.http.schemas.base import ErrorResponse


class FrontpageError(Exception):
    """Base class, and the error for what has no class of its own, such as a fault of the service.

    status: of HTTP, or None if there was no answer. code, field: the error's name for programs, and
    the field of the request at fault, where the service says so. retry_after_s: after how many
    seconds a retry makes sense.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        field: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.field = field
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class InvalidRequest(FrontpageError):
    """The service can't use the request; `field` says what is wrong with it."""


class AccessDenied(FrontpageError):
    """The API key is missing or unknown, or lacks the scope."""


class NotFound(FrontpageError):
    """The service does not know the model, story, adapter, alias or answer."""


class Conflict(FrontpageError):
    """The state of the service forbids the change."""


class RateLimited(FrontpageError):
    """The key has used up its requests a minute, also after all attempts."""


class Unavailable(FrontpageError):
    """The service is full, starting or shutting down, or its store is away, also after all
    attempts."""


class DeadlineExceeded(FrontpageError):
    """There was no answer in time."""


class Unreachable(FrontpageError):
    """There is no connection to the service, or it broke."""


KINDS: dict[int, type[FrontpageError]] = {
    **dict.fromkeys((400, 413, 415, 422), InvalidRequest),
    **dict.fromkeys((401, 403), AccessDenied),
    404: NotFound,
    409: Conflict,
    429: RateLimited,
    503: Unavailable,
    504: DeadlineExceeded,
}


def error_of(response: httpx.Response) -> FrontpageError:
    """The error that an answer tells of: the service's own, or that of a proxy in front of it."""
    status, retry_after = response.status_code, response.headers.get("retry-after", "")
    kind = KINDS.get(status, FrontpageError)
    retry_after_s = float(retry_after) if retry_after.isdecimal() else None
    try:
        told = ErrorResponse.model_validate_json(response.content).error
    except ValidationError:
        message = f"{response.url} answered {status}: {response.text[:200]}"
        return kind(message, status=status, retry_after_s=retry_after_s)
    return kind(
        told.message,
        status=status,
        code=told.code,
        field=told.param,
        request_id=told.request_id,
        retry_after_s=retry_after_s,
    )


def error_without_answer(error: httpx.TransportError, url: httpx.URL) -> FrontpageError:
    if isinstance(error, httpx.TimeoutException):
        return DeadlineExceeded(f"{url} did not answer in time")
    return Unreachable(f"{url} can't be reached: {error}")


def misread(response: httpx.Response, kind: type[BaseModel]) -> FrontpageError:
    """The error for an answer that is no `kind`, such as one of another service."""
    message = f"{response.url} did not answer with a {kind.__name__}: {response.text[:200]}"
    return FrontpageError(message, status=response.status_code)
