"""The service's errors, independent of HTTP. app/http/errors.py turns them into answers."""

from collections.abc import Sequence
from typing import Any, ClassVar


class ServiceError(Exception):
    """Base class of the errors that a client is told about.

    `param` names the field of the request at fault. `code` identifies the error to programs.
    `retry_after_s` says after how many seconds a retry makes sense.
    """

    code: ClassVar[str | None] = None
    retry_after_s: int | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ClientError(ServiceError):
    """The request is at fault."""


class BadRequest(ClientError):
    """The request can't be understood."""

    code = "bad_request"


class NotFound(ClientError):
    code = "not_found"


class ModelNotFound(ClientError):
    code = "model_not_found"


class InvalidValue(ClientError):
    """The request is understood, but a field's value can't be used."""

    code = "invalid_value"


class AdapterRejected(ClientError):
    """The adapter can't be served. Nothing has changed."""

    code = "adapter_rejected"


class Conflict(ClientError):
    """The state of the service forbids the change. Nothing has changed."""

    code = "conflict"


class Overloaded(ServiceError):
    """Refused before any work started, so that requests already accepted stay fast. reason: what
    there is too much of: requests or tokens; or draining, or engine."""

    code = "overloaded"
    retry_after_s = 1

    def __init__(self, message: str, reason: str = "engine") -> None:
        super().__init__(message)
        self.reason = reason


class DeadlineExceeded(ServiceError):
    """The request ran out of time, and its work has been stopped."""

    code = "deadline_exceeded"


class EngineUnavailable(ServiceError):
    """The engine is dead, is being started again, or refuses work. reason: for the metrics."""

    code = "engine_unavailable"
    retry_after_s = 5
    reason: ClassVar[str] = "engine"


class EngineStarting(EngineUnavailable):
    """The language model is being loaded for the first time."""

    reason = "starting"


class StoreUnavailable(ServiceError):
    """The store is full, slow or away. Predictions are still answered."""

    code = "store_unavailable"
    retry_after_s = 5


class FeedbackUnavailable(StoreUnavailable):
    """The store can't take or give feedback at the moment."""

    code = "feedback_unavailable"


class StartupError(Exception):
    """The service can't start. The message is one line that tells the operator why."""


REQUEST_PARTS = ("body", "query", "path", "header")
"""The part of a request that FastAPI puts before a field's name; it is left out of `param`."""


def from_validation(problems: Sequence[Any], error: type[ClientError]) -> ClientError:
    """Turn pydantic's problems into one error that names one field and counts the others: the first
    unknown one, whose misspelt name often causes the others, or else the first."""
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    param = ".".join(str(part) for part in first["loc"] if part not in REQUEST_PARTS) or None
    if first["type"] == "json_invalid":
        return error(f"the body is not valid JSON: {first.get('ctx', {}).get('error', '')}")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return error(f"{param or 'body'}: {first['msg']}{more}", param)
